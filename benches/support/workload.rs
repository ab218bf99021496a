//! The workload of the figures: code executions of about 600 bytes, the same for the same seed.

use std::fmt::Write as _;

const LINES: &[&str] = &[
    "import numpy as np",
    "import pandas as pd",
    "from pathlib import Path",
    "df = pd.read_csv(\\\"data/train_{}.csv\\\", index_col=0)",
    "df[\\\"total\\\"] = df[\\\"price\\\"] * df[\\\"qty_{}\\\"]",
    "df.groupby(\\\"region\\\")[\\\"total\\\"].agg([\\\"mean\\\", \\\"std\\\"]).head({})",
    "model = RandomForestClassifier(n_estimators={}, n_jobs=-1)",
    "print(f\\\"accuracy: {model.score(X_test, y_test):.4f} after {} epochs\\\")",
    "for epoch in range({}):",
    "    loss = step(batch, lr=1e-{})",
    "    history.append(float(loss))",
    "def load_{}(path):",
    "    with open(path, \\\"r\\\", encoding=\\\"utf-8\\\") as fh:",
    "        return [json.loads(line) for line in fh if line.strip()]",
    "plt.plot(history, label=\\\"run {}\\\")",
    "requests.get(f\\\"https://api.example.org/v1/items/{item_id}?page={}\\\", timeout=10).json()",
    "query = re.compile(r'^\\\\s*(\\\\w+)\\\\s*=\\\\s*(.*)$')",
    "# TODO clean this up before the review ({})",
    "torch.manual_seed({})",
    "display(HTML(\\\"<b>done in {} s</b>\\\"))",
];

/// A small generator of pseudo-random numbers (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// `count` events as JSON lines: 10 % errors, 2 % e-mail addresses, 0.5 % each of passwords, AWS keys, code of more
/// than 10,000 characters, 1 % text beyond ASCII.
pub fn generate(count: usize, seed: u64) -> String {
    let mut random = Random(seed);
    let mut out = String::with_capacity(count * 620);
    let mut millis: u64 = 1_735_689_600_000;
    for _ in 0..count {
        millis += random.below(60);
        event(&mut random, millis, &mut out);
    }
    out
}

fn event(random: &mut Random, millis: u64, out: &mut String) {
    let kind = random.below(1000);
    let wanted = if kind < 5 { 10_050 + random.below(4000) } else { 50 + random.below(330) };
    let (second, milli) = (millis / 1000 % 86_400, millis % 1000);
    let _ = write!(
        out,
        "{{\"timestamp\":\"2025-01-{:02}T{:02}:{:02}:{:02}.{milli:03}Z\",\"event_type\":\"code_execution\",\
         \"username\":\"user_{:03}\",\"session_id\":\"{:08x}-{:04x}-4a11-a000-{:012x}\",\"cell_number\":{},\"code\":\"",
        1 + millis / 86_400_000 % 28,
        second / 3600,
        second / 60 % 60,
        second % 60,
        random.below(1000),
        random.below(5000),
        random.below(65536),
        random.below(1 << 40),
        1 + random.below(400),
    );
    let start = out.len();
    match kind {
        5..25 => drop(write!(out, "notify(\\\"alice.bob{}@mail.example.net\\\")\\n", random.below(100))),
        25..30 => drop(write!(out, "dsn = \\\"host=db1 user=app password=S3cr{}!x dbname=prod\\\"\\n", random.next())),
        30..35 => drop(write!(out, "aws_access_key_id = \\\"AKIA{:016X}\\\"\\n", random.next())),
        35..45 => drop(write!(out, "# café — naïve Größe 結果 Привет {}\\n", random.below(100))),
        _ => {}
    }
    while ((out.len() - start) as u64) < wanted {
        let line = LINES[random.below(LINES.len() as u64) as usize];
        out.push_str(&line.replacen("{}", &random.below(10_000).to_string(), 1));
        out.push_str("\\n");
    }
    out.truncate(out.len() - 2);
    let (status, error) = if random.below(10) == 0 {
        let trace = "\"Traceback (most recent call last):\\n  File \\\"<ipython-input-7>\\\", line 3, in <module>\\n    \
                     result = compute(df, 4)\\nKeyError: 'price'\"";
        ("error", trace)
    } else {
        ("success", "null")
    };
    let _ = writeln!(
        out,
        "\",\"execution_time_ms\":{}.{:03},\"status\":\"{status}\",\"error_message\":{error},\
         \"metadata\":{{\"kernel\":\"python3\",\"host\":\"nb-12\",\"tags\":[\"a\",\"b\"]}}}}",
        random.below(900),
        random.below(1000),
    );
}
