//! The tests that look at Weir from outside, in one program: it is linked once.

mod access;
mod api;
mod configuration;
mod damage;
mod dead_letters;
mod disk;
mod elasticsearch;
mod examples;
mod http_sink;
mod independence;
mod input;
mod kafka;
mod kafka_source;
mod kill;
mod parking;
mod pipelines;
mod poison;
mod postgres;
mod reference;
mod reload;
mod secrets;
mod servers;
mod sources;
mod splunk;
mod support;
mod tidy;
