//! How the server is reached: TLS, whose certificate counts, and several hosts.

use std::fs;
use std::process::Command;

use crate::support::database::{Database, Filled};
use crate::support::services::Services;
use crate::support::{Folder, eventually, post};

const TABLE: &str = "CREATE TABLE t (id uuid PRIMARY KEY, session_id text, tls boolean DEFAULT tls()); ";
/// Whether the session that inserts is encrypted.
const WHETHER: &str = "CREATE FUNCTION tls() RETURNS boolean LANGUAGE sql SECURITY DEFINER AS \
    $$ SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid() $$; ";

fn is_encrypted(filled: &Filled, database: &Database) -> String {
    post(filled.port, r#"{"session_id":"s"}"#);
    filled.settle();
    database.sql("SELECT DISTINCT tls FROM t")
}

#[test]
fn tls_is_used_and_the_certificate_checked_as_the_url_says() {
    let services = Services::start("postgres-tls", &["postgres"]);
    let database = Database::on(&services.get("WEIR_TEST_POSTGRES"));
    database.sql(&format!("{WHETHER}{TABLE}"));
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let folder = Folder::new();
    let ca = folder.write("ca.pem", &certified.cert.pem());
    let data = database.sql("SHOW data_directory");
    fs::write(format!("{data}/server.crt"), certified.cert.pem()).expect("the certificate is written");
    fs::write(format!("{data}/server.key"), certified.signing_key.serialize_pem()).expect("the key is written");
    let key = format!("{data}/server.key");
    let mut ours = Command::new("sh");
    ours.args(["-c", &format!("chmod 600 {key}; chown --reference={data}/PG_VERSION {key}")]);
    assert!(ours.status().is_ok_and(|status| status.success()), "the key is the server's");
    database.sql("ALTER SYSTEM SET ssl = on");
    database.sql("SELECT pg_reload_conf()");
    database.sql("CREATE ROLE far LOGIN PASSWORD 'swordfish'; GRANT INSERT ON t TO far");
    let rules = database.sql("SHOW hba_file");
    let trusting = fs::read_to_string(&rules).expect("the rules can be read");
    fs::write(&rules, format!("hostssl all far all scram-sha-256\n{trusting}")).expect("the rules are written");
    database.sql("SELECT pg_reload_conf()");

    let url = database.url().replace("//postgres@127.0.0.1", "//far:swordfish@localhost");
    // Whoever it may be.
    let place = Folder::new();
    let filled = Filled::start(&place, &url, "t", "");
    assert_eq!(is_encrypted(&filled, &database), "t");
    // The certificate and its name, and the password bound to the channel.
    database.sql("TRUNCATE t");
    let checked = format!("{url}?sslmode=verify-full&sslrootcert={}&channel_binding=require", ca.display());
    let place = Folder::new();
    let filled = Filled::start(&place, &checked, "t", "");
    assert_eq!(is_encrypted(&filled, &database), "t");
    // The same by the sink's own key, and another name than the certificate's.
    for (address, works) in [("localhost", true), ("127.0.0.1", false)] {
        database.sql("TRUNCATE t");
        let url = url.replace("localhost", address);
        let place = Folder::new();
        let filled = Filled::start(&place, &url, "t", &format!("tls: {{ ca: {} }}", ca.display()));
        if works {
            assert_eq!(is_encrypted(&filled, &database), "t");
        } else {
            eventually("the other name is refused", || filled.agent.log().contains("TLS error with `127.0.0.1"));
            assert_eq!(filled.state(), "held");
        }
    }
    // An authority that nobody knows.
    let place = Folder::new();
    let filled = Filled::start(&place, &format!("{url}?sslmode=require"), "t", "");
    eventually("the authority is refused", || filled.agent.log().contains("set `tls.ca` to its certificate authority"));
    assert!(!filled.agent.log().contains("swordfish"));
}

#[test]
fn of_several_hosts_the_one_that_answers_is_found() {
    let (folder, database) = (Folder::new(), Database::new());
    database.sql("CREATE TABLE t (id uuid PRIMARY KEY, session_id text)");
    let (dead, place) = (1, database.place());
    let url = format!("postgres://postgres@127.0.0.1:{dead},{place}/{}", database.name);
    let filled = Filled::start(&folder, &url, "t", "");
    post(filled.port, r#"{"session_id":"s"}"#);
    filled.settle();
    assert_eq!(database.count("t"), 1);
}
