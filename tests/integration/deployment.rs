//! What `deploy/` holds is true: manifests and units, alert rules against a running agent, the dashboard's metrics.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Agent, Folder, eventually, free_port, post, request};

fn deploy(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(deploy(file)).expect("the file is there")
}

/// A program of Prometheus, installed or unpacked on first use.
fn prometheus(program: &str) -> Command {
    let out = Command::new(deploy("monitoring/tools")).stderr(Stdio::inherit()).output().expect("the tools are found");
    assert!(out.status.success(), "the programs of Prometheus cannot be had");
    Command::new(Path::new(String::from_utf8_lossy(&out.stdout).trim()).join(program))
}

/// Configurations inside of manifests: the lines below `weir.yaml: |`.
fn embedded(manifest: &str) -> String {
    let block = manifest.split("  weir.yaml: |\n").nth(1).expect("the manifest has a configuration");
    let lines = block.lines().take_while(|line| line.starts_with("    ") || line.is_empty());
    lines.map(|line| line.strip_prefix("    ").unwrap_or("").to_owned() + "\n").collect()
}

#[test]
fn the_configurations_of_the_manifests_hold() {
    for file in ["kubernetes/sidecar.yaml", "kubernetes/gateway.yaml"] {
        let folder = Folder::new();
        let path = folder.write("weir.yaml", &embedded(&read(file)));
        let out = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["validate", "--no-connect", "-c"])
            .arg(path)
            .arg("--data-dir")
            .arg(folder.path("data"))
            .envs([
                ("GATEWAY_TOKEN", "a-token-for-an-example"),
                ("WEIR_USER", "ali"),
                ("JWT_SECRET", "4f1c9d8e7b6a5f4e3d2c1b0a99887766"),
                ("DATABASE_URL", "postgres://weir@127.0.0.1/weir"),
            ])
            .output()
            .expect("weir validate runs");
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        assert!(out.status.success() && !said.contains("warning"), "{file}: {said}");
    }
}

#[test]
fn systemd_is_told_when_the_agent_is_ready_and_when_it_stops() {
    let folder = Folder::new();
    let socket = UnixDatagram::bind(folder.path("notify.sock")).expect("a socket");
    socket.set_read_timeout(Some(crate::support::PATIENCE)).expect("a timeout");
    let heard = || {
        let mut buffer = [0; 100];
        let count = socket.recv(&mut buffer).expect("the agent says something");
        String::from_utf8_lossy(&buffer[..count]).into_owned()
    };
    let path = folder.path("notify.sock").display().to_string();
    let yaml = "sources: { in: { type: stdin } }\nsinks: { out: { type: blackhole, inputs: [in] } }\n";
    let yaml = yaml.replace("{ type: stdin }", &format!("{{ type: http, address: '127.0.0.1:{}' }}", free_port()));
    let agent = Agent::start_with(&folder, &yaml, &[("NOTIFY_SOCKET", &path)]);
    assert_eq!(heard(), "READY=1");
    assert!(agent.stop().success());
    assert_eq!(heard(), "STOPPING=1");
}

#[test]
fn each_alert_fires_for_its_fault_and_none_when_all_is_well() {
    for arguments in [
        &["check", "rules", "alerts.yaml"][..],
        &["test", "rules", "alerts_test.yaml"],
        &["check", "config", "prometheus.yml"],
    ] {
        let out =
            prometheus("promtool").args(arguments).current_dir(deploy("monitoring")).output().expect("promtool runs");
        let said = String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned();
        assert!(out.status.success(), "{arguments:?}: {said}");
    }
}

/// Names of Weir's metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let words = words.filter(|word| word.starts_with("weir_") || word.starts_with("process_"));
    words.map(|word| word.trim_end_matches("_bucket").to_owned()).collect()
}

#[test]
fn alerts_and_dashboard_name_metrics_that_there_are() {
    // Not from /metrics: a metric without a sample is not there.
    let declared = include_str!("../../src/telemetry/names.rs");
    for file in ["monitoring/alerts.yaml", "monitoring/alerts_test.yaml", "monitoring/dashboard.json"] {
        for name in metrics_in(&read(file)) {
            assert!(declared.contains(&format!("\"{name}\"")), "{file} names `{name}`, which there is not");
        }
    }
    let dashboard: serde_json::Value = serde_json::from_str(&read("monitoring/dashboard.json")).expect("JSON");
    assert!(dashboard["panels"].as_array().is_some_and(|panels| panels.len() > 10));
}

/// A Prometheus that looks at an agent every second.
struct Watching {
    child: Child,
    port: u16,
}

impl Watching {
    fn start(folder: &Folder, agent: u16) -> Watching {
        let port = free_port();
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: ['{}']\n\
             scrape_configs: [{{ job_name: weir, static_configs: [{{ targets: ['127.0.0.1:{agent}'] }}] }}]\n",
            deploy("monitoring/alerts.yaml").display()
        );
        let path = folder.write("prometheus.yml", &config);
        let child = prometheus("prometheus")
            .arg(format!("--config.file={}", path.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus starts");
        Watching { child, port }
    }

    fn get(&self, path: &str) -> Option<serde_json::Value> {
        let answer = request(self.port, "GET", path, &[], b"").ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// Whether it has looked at the agent, and evaluated the rules since.
    fn has_looked(&self) -> bool {
        let up = self.get("/api/v1/query?query=up%7Bjob%3D%22weir%22%7D");
        up.is_some_and(|up| up["data"]["result"][0]["value"][1] == "1")
    }

    /// Alerts whose expression holds, whether for long enough or not.
    fn alerts(&self) -> Vec<String> {
        let alerts = self.get("/api/v1/alerts").unwrap_or_default();
        let alerts = alerts["data"]["alerts"].as_array().cloned().unwrap_or_default();
        alerts.iter().filter_map(|alert| alert["labels"]["alertname"].as_str().map(str::to_owned)).collect()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_real_prometheus_sees_no_alert_of_a_good_agent_and_one_of_a_bad_sink() {
    let folder = Folder::new();
    let (good, bad) = (free_port(), free_port());
    let yaml = format!(
        "sources: {{ in: {{ type: http, address: '127.0.0.1:{good}' }} }}\n\
         sinks:\n  out: {{ type: blackhole, inputs: [in] }}\n  \
         hook: {{ type: http, inputs: [in], where: 'status:error', uri: 'http://127.0.0.1:{bad}/' }}\n"
    );
    // It refuses whoever asks, as a target does whose token is wrong.
    let _refusing = crate::support::collector::Collector::start(move |_| crate::support::collector::reply(401, "no"));
    let yaml = yaml.replace(&format!(":{bad}/"), &format!(":{}/", _refusing.port));
    let agent = Agent::start(&folder, &yaml);
    post(good, r#"{"a":1}"#);
    let watching = Watching::start(&folder, agent.api);
    eventually("Prometheus has looked", || watching.has_looked());
    let evaluated =
        || watching.get("/api/v1/rules").is_some_and(|rules| !rules.to_string().contains("\"health\":\"unknown\""));
    eventually("the rules were evaluated", evaluated);
    assert_eq!(watching.alerts(), Vec::<String>::new());
    post(good, r#"{"a":1,"status":"error"}"#);
    eventually("the held sink is seen", || watching.alerts().contains(&"WeirSinkHeld".to_owned()));
    assert_eq!(watching.alerts(), ["WeirSinkHeld"]);
}
