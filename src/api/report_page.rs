//! The session report as a self-contained, printable HTML page: no script, no external resource.

use std::fmt::Write as _;

use super::report::{Activity, Report, now};

/// No script, and nothing from elsewhere.
pub const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'";

const STYLE: &str = "\
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.25rem 0;color:#667}\
table{border-collapse:collapse;width:100%}th,td{text-align:start;padding:.35rem .6rem;border-bottom:1px solid #8883;vertical-align:top}\
th{font-weight:600}td.n{text-align:end;font-variant-numeric:tabular-nums}code{font:13px/1.4 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}\
pre{font:13px/1.4 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere;margin:.25rem 0}summary{cursor:pointer}\
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.75rem;margin:1rem 0}dl div{border:1px solid #8883;border-radius:.5rem;padding:.6rem .8rem}\
dt{color:#667;font-size:.85rem}dd{margin:0;font-size:1.35rem;font-variant-numeric:tabular-nums}\
.success{color:#17803d}.failed{color:#c02626}.in_progress{color:#2563c4}.warning{color:#9a6700}\
@media(prefers-color-scheme:dark){.success{color:#4ade80}.failed{color:#f87171}.in_progress{color:#7aa9ff}.warning{color:#facc15}}\
@media print{body{margin:0;max-width:none}}";

/// The whole page.
pub fn render(report: &Report) -> String {
    let mut page = String::with_capacity(16 * 1024);
    let session = report.session_id().unwrap_or("no session");
    page.push_str("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
    page.push_str(
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
    );
    write(&mut page, format_args!("<title>Session {}</title><style>{STYLE}</style></head><body>", escaped(session)));
    write(&mut page, format_args!("<h1>Session <bdi>{}</bdi></h1><p>Report of {}</p>", escaped(session), now()));
    let summary = report.summary();
    page.push_str("<h2>Summary</h2><dl>");
    for (name, value) in [
        ("Activities", summary.total_activities.to_string()),
        ("Succeeded", summary.success_count.to_string()),
        ("Failed", summary.failed_count.to_string()),
        ("Success rate", format!("{:.1} %", summary.success_rate)),
        ("Minutes", format!("{:.1}", summary.session_duration)),
    ] {
        write(&mut page, format_args!("<div><dt>{name}</dt><dd>{value}</dd></div>"));
    }
    page.push_str("</dl>");
    if !report.failed().is_empty() {
        page.push_str("<h2>Failed</h2>");
        table(&mut page, report.failed());
    }
    page.push_str("<h2>Recent activities</h2>");
    table(&mut page, report.activities());
    page.push_str("<h2>Breakdown</h2><table><tr><th>Action</th><th>Count</th><th>Success</th><th>Average ms</th><th>95 % ms</th></tr>");
    let performance = serde_json::to_value(report.performance()).expect("a report is plain data");
    for (action, measured) in performance["by_action"].as_object().into_iter().flatten() {
        let number = |name: &str| measured[name].as_f64().map_or("–".to_owned(), |value| format!("{value:.1}"));
        write(
            &mut page,
            format_args!(
                "<tr><td><bdi>{}</bdi></td><td class=\"n\">{}</td><td class=\"n\">{} %</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
                escaped(action),
                measured["count"],
                number("success_rate"),
                number("avg_ms"),
                number("p95_ms"),
            ),
        );
    }
    page.push_str("</table></body></html>\n");
    page
}

fn table(page: &mut String, activities: &[Activity]) {
    page.push_str("<table><tr><th>Time</th><th>Action</th><th>Status</th><th>ms</th><th>Details</th></tr>");
    for activity in activities {
        let (sign, word) = match activity.status {
            "success" => ("✅", "success"),
            "failed" => ("❌", "failed"),
            "in_progress" => ("⏳", "in progress"),
            _ => ("⚠️", "warning"),
        };
        let duration = activity.duration_ms.map_or(String::new(), |value| format!("{value:.1}"));
        let details = activity.details.as_ref().map_or("", |details| details.get());
        write(
            page,
            format_args!(
                "<tr><td>{}</td><td><bdi>{}</bdi></td><td class=\"{}\">{sign} {word}</td><td class=\"n\">{duration}</td><td>",
                escaped(&activity.timestamp),
                escaped(&activity.action),
                activity.status,
            ),
        );
        if let Some(error) = &activity.error {
            write(page, format_args!("<code class=\"failed\">{}</code><br>", escaped(error)));
        }
        if let Some(trace) = &activity.error_trace {
            write(page, format_args!("<details><summary>Trace</summary><pre>{}</pre></details>", escaped(trace)));
        }
        write(page, format_args!("<code>{}</code></td></tr>", escaped(details)));
    }
    page.push_str("</table>");
}

fn write(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("memory takes every text");
}

/// A text escaped for any place of a page.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Signs that turn the text around them, or that no page may hold.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\0'..='\u{8}' | '\u{b}'..='\u{1f}' => {
                out.push('\u{fffd}')
            }
            _ => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_events_say_stays_text() {
        assert_eq!(
            escaped("<img src=x onerror=\"alert('1')\">&\u{202e}"),
            "&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;\u{fffd}"
        );
    }
}
