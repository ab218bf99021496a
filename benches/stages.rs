//! What the loop of stages costs: MB of input per CPU-second through a stage, from its cursor to the journal again.
//!
//! `cargo bench --bench stages [FILE]`; without a file it makes events of its own.

mod workload;

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use weir::component::{Bounds, Check, Stage};
use weir::diagnostic;
use weir::event::Batch;
use weir::journal::dead_letters::DeadLetters;
use weir::journal::fs::Real;
use weir::journal::{Commit, Journal, Mode, Options, Start, StreamId};
use weir::stages::{Downstream, Followed, Outlet, StageLoop, StageStop, StateMemory};
use weir::telemetry::{ComponentKind, ComponentMetrics};
use weir::transforms::dedupe::Dedupe;
use weir::transforms::operations::Operations;
use weir::transforms::reduce::Reduce;
use weir::units::Timestamp;
use workload::{cpu_seconds, pieces, split};

const ROUNDS: usize = 3;
/// More than all input and output together, so that nothing waits for a sink.
const MEMORY: usize = 4 << 30;

fn main() {
    let batches: Vec<Batch> = pieces(&workload::events()).iter().map(split).collect();
    measure::<Dedupe>("dedupe, all different", "window: 1h", &batches);
    measure::<Dedupe>("dedupe by user", "{key: user_id, window: 1h}", &batches);
    measure::<Reduce>("reduce by session", "key: session_id", &batches);
    measure::<Operations>("operations", "{}", &batches);
}

fn measure<S: Stage>(name: &str, yaml: &str, batches: &[Batch])
where
    S::Config: DeserializeOwned,
{
    let size: usize = batches.iter().map(|batch| batch.render().bytes.len()).sum();
    let best = (0..ROUNDS).map(|_| size as f64 / 1e6 / run(stage::<S>(yaml), batches)).fold(0.0, f64::max);
    println!("{name:>30}  {best:8.0} MB per CPU-second");
}

fn stage<S: Stage>(yaml: &str) -> S
where
    S::Config: DeserializeOwned,
{
    let mut check = Check::new("bench", "/nowhere", false);
    S::build(diagnostic::from_yaml(yaml).expect("right"), &mut check).expect("right")
}

/// CPU-seconds that the loop takes for everything; the journal's share is in them.
fn run(stage: impl Stage, batches: &[Batch]) -> f64 {
    let options = Options { mode: Mode::Memory, intake_bytes: MEMORY, tier_bytes: MEMORY, ..Options::new("/nowhere") };
    let (journal, _) = Journal::open(options, Arc::new(Real::default())).expect("memory");
    let (input, output) = (journal.stream("s:in").expect("a stream"), journal.stream("s").expect("a stream"));
    journal.wire_cursor("s:in", &[input], Start::Oldest).expect("it can be wired");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        for batch in batches {
            let commit =
                Commit { entries: vec![(input, batch.render())], received_at: Timestamp::now(), ..Commit::default() };
            journal.ticket().commit(commit).await.expect("appended");
        }
    });
    let newest = journal.stats().synced_seq;
    let stop = StageStop::default();
    let stage_loop = StageLoop {
        name: "s".into(),
        stage: Arc::new(stage),
        bounds: Bounds { entries: usize::MAX, bytes: usize::MAX },
        memory: StateMemory::new(usize::MAX).join(),
        cursor: journal.open_cursor("s:in", None).expect("nobody has it"),
        outlet: Arc::new(Outlet::new(Arc::new(Into(output)))),
        metrics: Arc::new(ComponentMetrics::new("s".into(), ComponentKind::Transform, "bench")),
        dead_letters: DeadLetters::in_memory(1 << 20).expect("memory"),
        stop: stop.clone(),
        evicting: false,
        journal: journal.clone(),
    };
    let before = cpu_seconds();
    runtime.block_on(async {
        let running = tokio::spawn(stage_loop.run());
        while journal.cursor_info(&"s:in".into()).is_some_and(|cursor| cursor.settled < newest) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        stop.stop.cancel();
        running.await.expect("it does not panic");
    });
    let spent = cpu_seconds() - before;
    journal.close();
    spent
}

/// Everything goes to one stream.
struct Into(StreamId);

impl Downstream for Into {
    fn run(&self, emitted: Vec<(usize, Batch)>) -> Followed {
        let entries = emitted.into_iter().map(|(_, batch)| (self.0, batch.render())).collect();
        Followed { entries, dead: Vec::new(), count: Box::new(|| ()) }
    }

    fn redacted(&self, text: &[u8]) -> Vec<u8> {
        text.to_vec()
    }
}
