//! `demo`: code executions as a team's notebooks would send them, for a first try and for tests.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, MissedTickBehavior};

use crate::codec::{Codec, Frames, Ordinals};
use crate::component::source::{CHUNK_BYTES, Chunk};
use crate::component::{Check, Fatal, Source, SourceContext};
use crate::net::Sockets;
use crate::toolkit::Lane;
use crate::toolkit::lane::Origin;
use crate::units::{Rate, Timestamp};

/// How often events are made; each time as many as the rate wants.
const TICK: Duration = Duration::from_millis(20);

/// Events for which the rate may be late before they are given up.
const LATEST: Duration = Duration::from_secs(1);

/// Generates events that look like code executions in notebooks: sessions of Persian and English users, some with
/// errors.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Events per unit of time.
    pub rate: Rate,
    /// Number of events after which the source ends; unlimited if absent.
    pub count: Option<u64>,
    /// Seed of the generator: the same seed gives the same events, except for their times.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Config {
        Config { rate: Rate::per_second(5), count: None, seed: 1 }
    }
}

pub struct Demo {
    /// Events in a second.
    rate: f64,
    count: Option<u64>,
    seed: u64,
}

impl Source for Demo {
    const TYPE: &'static str = "demo";
    type Config = Config;
    type Prepared = ();

    fn build(config: Config, check: &mut Check) -> Option<Demo> {
        if config.count == Some(0) {
            check.problem_with_hint("count", "expected at least 1", "omit it for no limit");
            return None;
        }
        Some(Demo { rate: config.rate.each_second(), count: config.count, seed: config.seed })
    }

    async fn prepare(&self, _: &Sockets) -> Result<(), Fatal> {
        Ok(())
    }

    async fn run(self: Arc<Demo>, (): (), cx: SourceContext) -> Result<(), Fatal> {
        let decoder = Arc::from(Codec::Json.decoder());
        let mut lane = Lane::new(cx.clone(), decoder, Origin::passing(None, "demo"));
        let mut team = Team::new(self.seed);
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut since, mut due, mut made) = (Instant::now(), 0.0, 0);
        let most = self.count.unwrap_or(u64::MAX);
        cx.ready();
        while made < most {
            tokio::select! {
                () = cx.shutdown.cancelled() => return Ok(()),
                _ = ticks.tick() => {}
            }
            let now = Instant::now();
            due += self.rate * (now - std::mem::replace(&mut since, now)).min(LATEST).as_secs_f64();
            while due >= 1.0 && made < most {
                let mut text = Vec::new();
                let base = made;
                while due >= 1.0 && made < most && text.len() < CHUNK_BYTES / 2 {
                    text.extend_from_slice(team.event(Timestamp::now()).as_bytes());
                    text.push(b'\n');
                    (due, made) = (due - 1.0, made + 1);
                }
                let Ok(permit) = lane.reserve(text.len()).await else { return Ok(()) };
                cx.intake.received_bytes(text.len() as u64);
                let ordinals = Ordinals::Count(base);
                lane.submit(Chunk { bytes: Bytes::from(text), frames: Frames::Lines, ordinals }, permit);
            }
        }
        // A stop ends the wait; submitted jobs belong to the intake.
        let _ = lane.drain().await;
        Ok(())
    }
}

/// Users at work.
struct Team {
    random: Random,
    workers: Vec<Worker>,
}

/// One user's open notebook.
struct Worker {
    user: &'static User,
    session: String,
    notebook: &'static str,
    cell: u64,
}

struct User {
    id: &'static str,
    name: &'static str,
    host: &'static str,
}

const USERS: [User; 8] = [
    User { id: "ali", name: "علی رضایی", host: "nb-1" },
    User { id: "sara", name: "سارا محمدی", host: "nb-1" },
    User { id: "reza", name: "رضا کریمی", host: "nb-2" },
    User { id: "maryam", name: "مریم احمدی", host: "nb-2" },
    User { id: "emma", name: "Emma Clarke", host: "nb-1" },
    User { id: "james", name: "James Wright", host: "nb-3" },
    User { id: "olivia", name: "Olivia Bennett", host: "nb-3" },
    User { id: "noah", name: "Noah Fischer", host: "nb-2" },
];

const NOTEBOOKS: [&str; 6] = [
    "churn.ipynb",
    "تحلیل فروش.ipynb",
    "forecast.ipynb",
    "image_classifier.ipynb",
    "گزارش هفتگی.ipynb",
    "scratch.ipynb",
];

const CODE: [&str; 16] = [
    "import pandas as pd\nimport numpy as np",
    "df = pd.read_csv('data/orders.csv', parse_dates=['created_at'])\ndf.head()",
    "# حذف ردیف‌های خالی\ndf = df.dropna(subset=['price', 'quantity'])\nlen(df)",
    "df['total'] = df['price'] * df['quantity']\ndf.groupby('region')['total'].sum().sort_values(ascending=False)",
    "df.describe(include='all')",
    "import matplotlib.pyplot as plt\ndf['total'].hist(bins=50)\nplt.title('فروش روزانه')\nplt.show()",
    "from sklearn.model_selection import train_test_split\n\
     X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.2, random_state=42)",
    "model = RandomForestClassifier(n_estimators=200, n_jobs=-1)\nmodel.fit(X_train, y_train)",
    "print(f'accuracy: {model.score(X_test, y_test):.3f}')",
    "for epoch in range(10):\n    loss = train(model, loader)\n    print(epoch, loss)",
    "# میانگین متحرک هفت روزه\ndf['ma7'] = df['total'].rolling(7).mean()\ndf.tail()",
    "conn = psycopg2.connect(os.environ['DATABASE_URL'])\npd.read_sql('select count(*) from orders', conn)",
    "%timeit np.linalg.svd(matrix)",
    "names = ['علی', 'سارا', 'Emma']\n[f'سلام {name}' for name in names]",
    "torch.cuda.is_available()",
    "df.to_parquet('out/features.parquet')",
];

const ERRORS: [(&str, &str); 6] = [
    ("KeyError", "'quantity'"),
    ("NameError", "name 'df' is not defined"),
    ("ValueError", "could not convert string to float: '۱۲٫۵'"),
    ("ZeroDivisionError", "division by zero"),
    ("FileNotFoundError", "[Errno 2] No such file or directory: 'data/orders.csv'"),
    ("MemoryError", "Unable to allocate 7.45 GiB for an array with shape (1000000000,) and data type float64"),
];

impl Team {
    fn new(seed: u64) -> Team {
        let mut random = Random(seed);
        let workers = USERS.iter().map(|user| Worker::open(user, &mut random)).collect();
        Team { random, workers }
    }

    fn event(&mut self, now: Timestamp) -> String {
        let random = &mut self.random;
        // Some work more than others.
        let at = random.below(self.workers.len() as u64).min(random.below(self.workers.len() as u64));
        let worker = &mut self.workers[at as usize];
        if worker.cell > 0 && random.below(60) == 0 {
            *worker = Worker::open(worker.user, random);
        }
        worker.cell += 1;
        let code = CODE[random.below(CODE.len() as u64) as usize];
        // Most cells are quick, a few take minutes.
        let duration_ms = (2.0_f64.powf(random.share() * 17.0) * 1.5) as u64;
        let mut event = json!({
            "timestamp": now.to_string(),
            "event_type": "cell.finish",
            "status": "success",
            "user_id": worker.user.id,
            "user_display_name": worker.user.name,
            "session_id": worker.session,
            "notebook": worker.notebook,
            "cell_number": worker.cell,
            "language": "python",
            "code": code,
            "duration_ms": duration_ms,
            "host": worker.user.host,
        });
        if random.below(10) == 0 {
            let (kind, message) = ERRORS[random.below(ERRORS.len() as u64) as usize];
            let line = 1 + random.below(code.lines().count() as u64);
            event["status"] = "error".into();
            event["error_type"] = kind.into();
            event["error_message"] = message.into();
            event["error_trace"] = format!(
                "Traceback (most recent call last):\n  Cell In[{}], line {line}\n    {}\n{kind}: {message}",
                worker.cell,
                code.lines().nth(line as usize - 1).unwrap_or_default(),
            )
            .into();
        }
        event.to_string()
    }
}

impl Worker {
    fn open(user: &'static User, random: &mut Random) -> Worker {
        let notebook = NOTEBOOKS[random.below(NOTEBOOKS.len() as u64) as usize];
        Worker { user, session: format!("{}-{:08x}", user.id, random.next() as u32), notebook, cell: 0 }
    }
}

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::toolkit::fake::{self, FakeIntake};

    #[tokio::test(start_paused = true)]
    async fn as_many_events_come_as_were_asked_for_at_their_rate() {
        let intake = FakeIntake::new();
        let begun = Instant::now();
        fake::run(Demo { rate: 100.0, count: Some(1000), seed: 7 }, intake.context()).await.unwrap();
        assert_eq!(intake.texts().len(), 1000);
        let took = begun.elapsed().as_secs_f64();
        assert!((9.9..10.2).contains(&took), "{took}");
    }

    #[test]
    fn a_seed_gives_the_same_events_and_they_look_like_work() {
        let now = Timestamp(1_700_000_000_000_000);
        let make = |seed| {
            let mut team = Team::new(seed);
            (0..500).map(|_| team.event(now)).collect::<Vec<_>>()
        };
        assert_eq!(make(1), make(1));
        assert_ne!(make(1), make(2));
        let events: Vec<serde_json::Value> = make(3).iter().map(|e| serde_json::from_str(e).unwrap()).collect();
        let errors = events.iter().filter(|e| e["status"] == "error").count();
        assert!((20..80).contains(&errors), "{errors}");
        let sessions: std::collections::HashSet<_> = events.iter().map(|e| e["session_id"].to_string()).collect();
        assert!(sessions.len() >= USERS.len());
    }
}
