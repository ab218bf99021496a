//! Parses `User-Agent`: program, version, platform.

use serde_json::{Map, json};

/// The longest text that is looked at, in bytes.
const MAX_TEXT: usize = 1024;
/// Programs by the word before their version. The first that is there counts: browsers name those that they resemble.
const PROGRAMS: [(&str, &str); 20] = [
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Vivaldi/", "Vivaldi"),
    ("YaBrowser/", "Yandex"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("HeadlessChrome/", "Headless Chrome"),
    ("Chrome/", "Chrome"),
    ("Version/", "Safari"),
    ("curl/", "curl"),
    ("Wget/", "Wget"),
    ("python-requests/", "python-requests"),
    ("python-httpx/", "httpx"),
    ("aiohttp/", "aiohttp"),
    ("Go-http-client/", "Go"),
    ("PostmanRuntime/", "Postman"),
    ("weir/", "weir"),
];
const SYSTEMS: [(&str, &str); 8] = [
    ("Windows", "Windows"),
    ("Android", "Android"),
    ("iPhone", "iOS"),
    ("iPad", "iOS"),
    ("CrOS", "ChromeOS"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
    ("FreeBSD", "FreeBSD"),
];

/// Name, version, system and device as JSON; `None` where nothing is understood.
pub fn client(text: &str) -> Option<Vec<u8>> {
    let text = &text[..text.floor_char_boundary(MAX_TEXT)];
    let lower = text.to_ascii_lowercase();
    let is_bot = ["bot", "crawler", "spider", "slurp"].iter().any(|word| lower.contains(word));
    let program = PROGRAMS.iter().find_map(|(word, name)| Some((*name, &text[text.find(word)? + word.len()..])));
    let system = SYSTEMS.iter().find(|(word, _)| text.contains(word)).map(|(_, name)| *name);
    if program.is_none() && system.is_none() && !is_bot {
        return None;
    }
    let mut client = Map::new();
    if let Some((name, rest)) = program {
        let version: String = rest.chars().take_while(|c| c.is_ascii_digit() || *c == '.').take(32).collect();
        client.insert("name".into(), name.into());
        if !version.is_empty() {
            client.insert("version".into(), version.into());
        }
    }
    if let Some(system) = system {
        client.insert("os".into(), system.into());
    }
    let device = match system {
        _ if is_bot => "bot",
        Some("Android") if !text.contains("Mobile") => "tablet",
        Some("Android") => "phone",
        Some("iOS") if text.contains("iPad") => "tablet",
        Some("iOS") => "phone",
        Some(_) => "desktop",
        None => "program",
    };
    client.insert("device".into(), device.into());
    Some(json!(client).to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_from_those_that_they_resemble() {
        for (text, expected) in [
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36 Edg/120.0.1",
                r#"{"device":"desktop","name":"Edge","os":"Windows","version":"120.0.1"}"#,
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.0 Mobile/15E148 Safari/604.1",
                r#"{"device":"phone","name":"Safari","os":"iOS","version":"17.0"}"#,
            ),
            ("curl/8.5.0", r#"{"device":"program","name":"curl","version":"8.5.0"}"#),
            ("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", r#"{"device":"bot"}"#),
        ] {
            let found: serde_json::Value = serde_json::from_slice(&client(text).expect(text)).expect("JSON");
            assert_eq!(found, serde_json::from_str::<serde_json::Value>(expected).expect("JSON"), "{text}");
        }
        assert_eq!(client("something else"), None);
        assert_eq!(client(&"ü".repeat(5000)), None);
    }
}
