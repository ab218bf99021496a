//! The page as a browser fetches it: its policy, its versions, its encodings, and its place below a base path.

use crate::support::{Agent, Answer, Folder, eventually, request};

fn get(agent: &Agent, path: &str, headers: &[(&str, &str)]) -> Answer {
    request(agent.api, "GET", path, headers, b"").expect("the agent answers")
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    let lines = answer.head.lines().filter_map(|line| line.split_once(": "));
    lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next().unwrap_or("")
}

/// The addresses that a document links to.
fn links(document: &str) -> Vec<String> {
    let parts = document.split(['"']).filter(|part| part.starts_with("ui/"));
    parts.map(|part| format!("/{part}")).collect()
}

#[test]
fn the_document_comes_with_a_strict_policy_whatever_its_query() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, "sources:\n  idle: { type: demo, rate: 1/h }\n");
    for path in ["/", "/logs", "/?q=a%20b&view=overview&utm_source=x", "/?token=nonsense"] {
        let answer = get(&agent, path, &[]);
        assert_eq!(answer.status, 200, "{path}");
        let policy = header(&answer, "content-security-policy");
        for part in
            ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"]
        {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(header(&answer, "cache-control"), "no-cache");
        assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
    }
    let tag = header(&get(&agent, "/", &[]), "etag").to_owned();
    assert_eq!(get(&agent, "/", &[("If-None-Match", &tag)]).status, 304);
}

#[test]
fn each_file_of_the_page_is_there_for_ever_under_its_version() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, "sources:\n  idle: { type: demo, rate: 1/h }\n");
    let document = get(&agent, "/", &[]).text();
    let links = links(&document);
    assert!(links.len() > 20, "{document}");
    for link in &links {
        let plain = get(&agent, link, &[]);
        assert_eq!(
            (plain.status, header(&plain, "cache-control")),
            (200, "public, max-age=31536000, immutable"),
            "{link}"
        );
        for encoding in ["gzip", "zstd"] {
            let packed = get(&agent, link, &[("Accept-Encoding", encoding)]);
            assert_eq!(header(&packed, "content-encoding"), encoding, "{link}");
            assert!(packed.body.len() < plain.body.len() || plain.body.len() < 400, "{link}");
        }
    }
    let main = links.iter().find(|link| link.ends_with("main.js")).expect("the page has a beginning");
    assert!(header(&get(&agent, main, &[]), "content-type").starts_with("text/javascript"));
    let other = main.replace(main.split('/').nth(2).expect("a version"), "0000000000000000");
    for path in [
        &other,
        "/ui",
        "/ui/",
        "/ui/../secret",
        &main.replace("main.js", "..%2fmain.js"),
        &main.replace("main.js", "index.html"),
    ] {
        assert_eq!(get(&agent, path, &[]).status, 404, "{path}");
    }
}

#[test]
fn the_page_lives_below_a_base_path() {
    let folder = Folder::new();
    let agent = Agent::spawn(&folder, "  base_path: /weir\nsources:\n  idle: { type: demo, rate: 1/h }\n", &[]);
    eventually("it is ready", || {
        request(agent.api, "GET", "/weir/ready", &[], b"").is_ok_and(|answer| answer.status == 200)
    });
    let answer = get(&agent, "/weir/", &[]);
    assert_eq!(answer.status, 200);
    for link in links(&answer.text()) {
        assert_eq!(get(&agent, &format!("/weir{link}"), &[]).status, 200, "{link}");
    }
    let moved = get(&agent, "/weir?token=x", &[]);
    assert_eq!((moved.status, header(&moved, "location")), (308, "/weir/?token=x"));
    assert_eq!(get(&agent, "/", &[]).status, 404);
}

#[test]
fn a_refusal_opens_no_window_of_the_browser_over_the_page() {
    let folder = Folder::new();
    let agent = Agent::start(&folder, "sources:\n  idle: { type: demo, rate: 1/h }\n");
    assert_ne!(header(&get(&agent, "/api/me", &[]), "www-authenticate"), "");
    let refused = get(&agent, "/api/me", &[("X-Requested-With", "weir-page")]);
    assert_eq!((refused.status, header(&refused, "www-authenticate")), (401, ""));
}
