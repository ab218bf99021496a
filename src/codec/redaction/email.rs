//! E-mail addresses, distinguished from decorators, systemd units, package versions and matrix products.

use super::byte_set::ByteSet;
use crate::codec::redaction::literals::Literals as _;
use std::ops::Range;

use super::escapes::is_after_escape;
use super::reader::Reader;

/// The longest part of an address before its `@`, and behind it (RFC 5321).
const MAX_LOCAL: usize = 64;
const MAX_DOMAIN: usize = 255;

/// Top-level domains of two letters: the countries.
const COUNTRIES: &str = "acadaeafagaialamaoaqarasatauawaxazbabbbdbebfbgbhbibjbmbnbobrbsbtbwbybzcacccdcfcgchcickclcmcncocrcucvcwcxcyczdedjdkdmdodzeceeegereseteufifjfkfmfofrgagbgdgegfggghgiglgmgngpgqgrgsgtgugwgyhkhmhnhrhthuidieiliminioiqirisitjejmjojpkekgkhkikmknkpkrkwkykzlalblclilklrlsltlulvlymamcmdmemgmhmkmlmmmnmompmqmrmsmtmumvmwmxmymznancnenfngninlnonpnrnunzompapepfpgphpkplpmpnprpsptpwpyqarerorsrurwsasbscsdsesgshsiskslsmsnsosrssstsvsxsysztctdtftgthtjtktltmtntotrtttvtwtzuaugukusuyuzvavcvevgvivnvuwfwsyeytzazmzw";

/// Other top-level domains that addresses use, and names for domains of one's own.
#[rustfmt::skip]
const DOMAINS: &[&str] = &[
    "com", "org", "net", "edu", "gov", "mil", "int", "info", "biz", "name", "pro", "aero", "coop", "museum",
    "mobi", "jobs", "travel", "cat", "asia", "tel", "post", "xxx", "arpa", "local", "lan", "internal", "intranet",
    "corp", "home", "localdomain", "localhost", "example", "test", "invalid", "onion", "private", "app", "dev",
    "ai", "io", "cloud", "online", "site", "store", "shop", "tech", "xyz", "blog", "live", "life", "news", "email",
    "mail", "agency", "digital", "media", "group", "global", "world", "team", "works", "solutions", "company",
    "systems", "network", "software", "academy", "school", "university", "institute", "foundation", "center",
    "bank", "capital", "finance", "insurance", "health", "hospital", "care", "clinic", "dental", "law", "legal",
    "consulting", "design", "studio", "photography", "art", "music", "film", "games", "game", "fun", "space",
    "today", "city", "land", "house", "homes", "estate", "property", "london", "berlin", "paris", "tokyo", "nyc",
    "africa", "swiss", "wien", "koeln", "hamburg", "bayern", "istanbul", "moscow", "quebec", "scot", "wales",
    "eus", "gal", "bzh", "club", "social", "community", "events", "guru", "expert", "services", "support", "help",
    "tools", "technology", "science", "engineering", "energy", "green", "eco", "farm", "garden", "food",
    "restaurant", "cafe", "bar", "pub", "wine", "beer", "fashion", "clothing", "shoes", "jewelry", "watch", "auto",
    "car", "cars", "bike", "taxi", "flights", "holiday", "hotel", "money", "cash", "credit", "loan", "market",
    "markets", "trade", "trading", "fund", "ventures", "partners", "holdings", "industries", "international",
    "enterprises", "page", "pages", "link", "click", "host", "hosting", "website", "web", "wiki", "press",
    "review", "reviews", "video", "tv", "fm", "audio", "chat", "date", "dating", "love", "baby", "kids", "family",
    "pet", "vet", "dog", "fit", "fitness", "run", "yoga", "golf", "football", "soccer", "rocks", "ninja", "cool",
    "best", "top", "vip", "win", "bid", "icu", "cyou", "buzz", "gmbh", "ltd", "inc", "llc", "llp", "srl",
    "limited", "ooo", "kim", "moe", "wang", "ren", "men", "one", "zone", "plus", "blue", "red", "black", "pink",
    "gold", "google", "youtube", "amazon", "apple", "microsoft", "bmw", "audi", "ibm", "hsbc", "barclays", "citi",
    "bnpparibas", "sap", "siemens", "canon", "sony", "toyota",
];

/// Endings of files, units and packages that look like domains: `logo@2x.png`, `getty@tty1.service`.
const ENDINGS: &[&str] = &[
    "png", "jpg", "jpeg", "gif", "svg", "webp", "js", "jsx", "mjs", "css", "scss", "py", "ts", "tsx", "json", "so",
    "service", "socket", "target", "timer", "mount", "slice", "scope", "device", "swap", "txt", "md", "rs", "go",
    "java", "yaml", "yml", "toml", "html", "whl", "gz", "zip", "tgz", "conf",
];

/// The address around the `@` at `at`.
pub fn email(reader: &Reader<'_>, at: usize) -> Option<Range<usize>> {
    let text = reader.text;
    let is_local = |b: &u8| b.is_ascii_alphanumeric() || const { &ByteSet::of(b"._%+-'") }.has(b) || *b >= 0x80;
    let local = text[..at].iter().rev().take(MAX_LOCAL).take_while(|b| is_local(b)).count();
    let mut start = at - local;
    // The letters of an escape in a nested string are no part of the address.
    for (place, letters) in [(start + 1, 1), (start + 5, 5)] {
        if place < at && is_after_escape(text, place) && text[start..].len() > letters {
            start = place;
        }
    }
    while start < at && (const { &ByteSet::of(b".-%+'") }.has(&text[start]) || text[start] & 0xC0 == 0x80) {
        start += 1;
    }
    start = past_punctuation(text, start, at);
    let user = &text[start..at];
    if user.is_empty() || user == b"git" || user == b"this" || user == b"super" || text[at - 1] == b'.' {
        return None;
    }
    let domain = &text[at + 1..];
    let is_domain = |b: &u8| b.is_ascii_alphanumeric() || b".-".contains(b) || *b >= 0x80;
    let len = domain.iter().take(MAX_DOMAIN).take_while(|b| is_domain(b)).count();
    reader.charge(local + len);
    let labels: Vec<&[u8]> = domain[..len].split(|b| *b == b'.').collect();
    // A full stop or hyphen at the end belongs to the sentence.
    let whole = labels.iter().take_while(|label| is_label(label)).count();
    let (top, rest) = labels[..whole].split_last()?;
    let top = top_letters(top);
    if rest.is_empty() || top.is_empty() {
        return None;
    }
    let end = at + 1 + rest.iter().map(|label| label.len() + 1).sum::<usize>() + top.len();
    // `postgres://app@db.example.com`: the user of a URL and its host; a user may be an address, too.
    let of_url = || {
        let scheme = reader.scheme_before(at);
        let is_user = |scheme: usize| !text[scheme + 3..at].iter().any(|b| const { &ByteSet::of(b"/?#,;") }.has(b));
        let ends = |b: &&u8| b.is_ascii_whitespace() || const { &ByteSet::of(b"\"'`<>/\\") }.has(b);
        let more = text[end..].iter().take(MAX_DOMAIN).take_while(|b| !ends(b)).any(|b| *b == b'@');
        !more && scheme.is_some_and(is_user)
    };
    (is_plausible(text, start..end, top) && !begins_code(text, end) && !of_url()).then_some(start..end)
}

/// Past what is no letter in other scripts: quotes, commas and colons of theirs, characters without a width.
fn past_punctuation(text: &[u8], mut start: usize, at: usize) -> usize {
    for place in (start..at).rev() {
        let three = text.get(place..place + 3);
        let sign = matches!(three, Some([0xE2, 0x80, _]) | Some([0xE3, 0x80, _]) | Some([0xEF, 0xBC, 0x80..=0x8F | 0x9A..=0x9F]));
        let two = matches!(text.get(place..place + 2), Some([0xC2, _]) | Some([0xD8, 0x8C | 0x9B]));
        if sign || two {
            start = (place + if sign { 3 } else { 2 }).min(at);
            break;
        }
    }
    start
}

/// The letters of a top-level domain, without punctuation of other scripts behind them.
fn top_letters(label: &[u8]) -> &[u8] {
    let Ok(text) = std::str::from_utf8(label) else {
        let ascii = label.iter().take_while(|b| b.is_ascii()).count();
        return &label[..ascii];
    };
    let first = text.chars().next().is_some_and(|c| !c.is_ascii());
    let end = text.char_indices().find(|(_, c)| {
        if first { !c.is_alphabetic() || c.is_ascii() } else { !c.is_ascii_alphanumeric() && *c != '-' }
    });
    &label[..end.map_or(label.len(), |(at, _)| at)]
}

fn is_label(label: &[u8]) -> bool {
    !label.is_empty() && label[0] != b'-' && label[label.len() - 1] != b'-'
}

/// Whether the top-level domain is known, or one may be where it stands.
fn is_plausible(text: &[u8], address: Range<usize>, top: &[u8]) -> bool {
    if top.len() < 2 {
        return false;
    }
    if !top.is_ascii() {
        return true;
    }
    let lower = String::from_utf8_lossy(top).to_ascii_lowercase();
    if ENDINGS.contains(&lower.as_str()) || !top.iter().any(u8::is_ascii_alphabetic) {
        return false;
    }
    let country = lower.len() == 2 && COUNTRIES.as_bytes().chunks(2).any(|country| country == lower.as_bytes());
    if country || DOMAINS.contains(&lower.as_str()) || lower.starts_with("xn--") {
        return true;
    }
    // A domain that nobody knows needs a sign that this is an address.
    let before = text[..address.start].last();
    let after = text.get(address.end);
    let bracketed = before == Some(&b'<') && after == Some(&b'>') || text[..address.start].closes_with(b"mailto:");
    top.iter().all(u8::is_ascii_alphabetic) && bracketed
}

/// Whether what follows is code: a call, an index, an attribute, an assignment.
fn begins_code(text: &[u8], end: usize) -> bool {
    matches!(text.get(end), Some(b'(' | b'[' | b'=' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Option<&str> {
        let at = text.find('@').expect("has an @");
        email(&Reader::new(text.as_bytes()), at).map(|range| &text[range])
    }

    #[test]
    fn addresses_are_taken_whole() {
        for (text, expected) in [
            ("mail alice.bob12@example.com now", "alice.bob12@example.com"),
            ("<a+b@mail.example.co.uk>", "a+b@mail.example.co.uk"),
            ("ask x_y@corp.example.org.", "x_y@corp.example.org"),
            ("josé@exämple.com", "josé@exämple.com"),
            ("用户@例子.公司", "用户@例子.公司"),
            ("ایمیل: علی@مثال.ایران", "علی@مثال.ایران"),
            ("<x@host.unknownname>", "x@host.unknownname"),
            ("x@muenchen.xn--p1ai", "x@muenchen.xn--p1ai"),
            ("وacute: a@b.co، b", "a@b.co"),
            ("https://x.example/?to=a@b.co", "a@b.co"),
            ("https://x.example,a@b.co", "a@b.co"),
            ("smtp://a@b.co:x@mail.example", "a@b.co"),
        ] {
            assert_eq!(found(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_an_address_stays() {
        for text in [
            "@app.route",
            "user@host",
            "logo@2x.png",
            "git@github.com:a/b",
            "a @ b.com",
            "x@1.2.3",
            "a@.com",
            "X@beta.reshape(-1)",
            "getty@tty1.service",
            "W@x.T",
            "lodash@4.17.21",
            "A@B.dot(C)",
            "x@w.to(device)",
            "this@Main.finish",
            "a@b.sum",
            "postgres://app@db.example.com/x",
            "mongodb://$U:$P@cluster.example.net/app",
            "vue@3.2.0-beta.1",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
