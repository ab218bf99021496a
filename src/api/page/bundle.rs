//! The page's files under one version (a hash over all of them), each compressed once.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use hyper::Response;
use hyper::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, VARY};

use super::{comments, files};
use crate::api::answer::takes;
use crate::net::http::Body;

/// The document; all other files are loaded by it.
const DOCUMENT: &str = "index.html";
/// Stands in the document for the folder with the version in its name.
const FOLDER: &str = "{{ui}}";
/// Stands in the document for the modules that the browser may fetch at once.
const MODULES: &str = "{{modules}}";
/// Modules that few visitors need.
const LATER: [&str; 1] = ["lang/fa.js"];

/// The page as it is served. A debug build reads `ui/` again, so that a change is seen without a new build.
#[derive(Default)]
pub struct Page(Mutex<Option<Arc<Bundle>>>);

impl Page {
    pub fn current(&self) -> Arc<Bundle> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if cfg!(debug_assertions) {
            let files = files::now();
            let version = version_of(&files);
            if known.as_ref().is_none_or(|bundle| bundle.version != version) {
                *known = Some(Arc::new(Bundle::new(files)));
            }
        }
        known.get_or_insert_with(|| Arc::new(Bundle::new(files::now()))).clone()
    }
}

pub struct Bundle {
    /// A hash over names and contents of all files.
    pub version: String,
    assets: Vec<Asset>,
}

pub struct Asset {
    name: &'static str,
    content_type: &'static str,
    plain: Bytes,
    gzip: OnceLock<Bytes>,
    zstd: OnceLock<Bytes>,
}

impl Bundle {
    fn new(files: Vec<(&'static str, Bytes)>) -> Bundle {
        let version = version_of(&files);
        let assets = files.into_iter().map(|(name, file)| Asset {
            name,
            content_type: content_type(name),
            plain: served(name, file),
            gzip: OnceLock::new(),
            zstd: OnceLock::new(),
        });
        Bundle { version, assets: assets.collect() }
    }

    /// A file that the document may load.
    pub fn asset(&self, name: &str) -> Option<&Asset> {
        self.assets.iter().find(|asset| asset.name == name && name != DOCUMENT)
    }

    /// The document, with links to this version.
    pub fn document(&self) -> String {
        let document = self.assets.iter().find(|asset| asset.name == DOCUMENT).expect("the list of files has it");
        let folder = format!("ui/{}", self.version);
        let modules = self.assets.iter().filter(|asset| asset.name.ends_with(".js") && !LATER.contains(&asset.name));
        let links: String =
            modules.map(|asset| format!("<link rel=\"modulepreload\" href=\"{folder}/{}\">\n", asset.name)).collect();
        String::from_utf8_lossy(&document.plain).replace(MODULES, links.trim_end()).replace(FOLDER, &folder)
    }
}

impl Asset {
    pub fn respond(&self, request: &HeaderMap) -> Response<Body> {
        let accepted = request.get(ACCEPT_ENCODING);
        let (body, encoding) = if takes(accepted, "zstd") {
            (self.zstd.get_or_init(|| zstd_of(&self.plain)), Some("zstd"))
        } else if takes(accepted, "gzip") {
            (self.gzip.get_or_init(|| gzip_of(&self.plain)), Some("gzip"))
        } else {
            (&self.plain, None)
        };
        let mut response = Response::new(Body::from(body.clone()));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
        if let Some(encoding) = encoding {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        response
    }
}

fn version_of(files: &[(&'static str, Bytes)]) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, body) in files {
        for part in [name.as_bytes(), body] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// A file as it is sent.
fn served(name: &str, file: Bytes) -> Bytes {
    match std::str::from_utf8(&file) {
        Ok(text) if name.ends_with(".js") || name.ends_with(".css") => comments::without(text).into(),
        _ => file,
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/html; charset=utf-8",
    }
}

fn zstd_of(plain: &Bytes) -> Bytes {
    zstd::bulk::compress(plain, 19).expect("memory takes every byte").into()
}

fn gzip_of(plain: &Bytes) -> Bytes {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(plain).and_then(|()| encoder.finish()).expect("memory takes every byte").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What all files weigh together when they are sent.
    const MOST_BYTES: usize = 80 * 1024;

    #[test]
    fn the_whole_page_is_small() {
        let bundle = Bundle::new(files::now());
        let gzip: usize = bundle.assets.iter().map(|asset| gzip_of(&asset.plain).len()).sum();
        let zstd: usize = bundle.assets.iter().map(|asset| zstd_of(&asset.plain).len()).sum();
        assert!(gzip.max(zstd) <= MOST_BYTES, "{gzip} bytes as gzip, {zstd} as zstd");
    }

    #[test]
    fn the_document_names_only_files_that_are_there() {
        let bundle = Bundle::new(files::now());
        let document = bundle.document();
        let folder = format!("ui/{}/", bundle.version);
        let names: Vec<&str> = document.split(&folder).skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(names.len() > 10, "{document}");
        for name in names {
            assert!(bundle.asset(name).is_some(), "{name}");
        }
        assert!(!document.contains("{{") && bundle.asset(DOCUMENT).is_none());
    }

    #[test]
    fn another_content_is_another_version() {
        let version = |body: &'static [u8]| version_of(&[("main.js", Bytes::from_static(body))]);
        assert_ne!(version(b"1"), version(b"2"));
        assert_eq!(version(b"1"), version(b"1"));
    }
}
