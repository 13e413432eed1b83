//! Pages for people: one for each run, and an index over many that shows two systems side by side. No script, no network.

mod index;
mod page;
mod timeline;

use std::fs;
use std::path::Path;

use anyhow::Context;

pub(crate) use self::index::{Entry, write_index};
use super::check::Verdict;
use super::conditions::Conditions;
use super::history::History;

/// Of a run's page.
pub(crate) const PAGE: &str = "index.html";

/// Writes the page of a run into its folder.
pub(crate) fn write_run(
    folder: &Path,
    conditions: &Conditions,
    history: &History,
    verdict: &Verdict,
) -> anyhow::Result<()> {
    let html = page::render(conditions, history, verdict);
    write(&folder.join(PAGE), &html)
}

fn write(path: &Path, html: &str) -> anyhow::Result<()> {
    fs::write(path, html).with_context(|| format!("cannot write {}", path.display()))
}

/// Text inside HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A whole document around `body`.
fn document(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n",
        escape(title)
    )
}

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fff;--fg:#1d2430;--dim:#6a7486;--line:#dde2ea;--panel:#f6f8fb;--ok:#2f9e5b;
--definite:#e0a021;--unknown:#d1453b;--fault:#d1453b22;--n1:#3b76d1;--n2:#c2662d;--n3:#7a54c4;--n4:#1f9a93;--n5:#b43f7c}
@media (prefers-color-scheme:dark){:root{--bg:#12161d;--fg:#e4e8ef;--dim:#93a0b4;--line:#2b3341;--panel:#1a202a;
--ok:#43b873;--definite:#e5b04a;--unknown:#ea6a60;--fault:#ea6a602b;--n1:#6a9cf0;--n2:#e08d58;--n3:#a488e8;--n4:#4cc4bc;--n5:#de78ac}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1240px;padding:24px 20px 60px;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,sans-serif}h1{font-size:22px;margin:0 0 4px}h2{font-size:16px;margin:34px 0 10px}
p{margin:6px 0}.dim{color:var(--dim)}a{color:var(--n1)}code,pre{font:13px/1.5 ui-monospace,monospace}
pre{background:var(--panel);border:1px solid var(--line);border-radius:6px;padding:10px 12px;overflow-x:auto;white-space:pre-wrap}
.verdict{display:inline-block;padding:2px 12px;border-radius:99px;color:#fff;font-weight:600;margin-right:10px}
.ok{background:var(--ok)}.INVALID{background:var(--definite)}.VIOLATED{background:var(--unknown)}
.cards{display:grid;grid-template-columns:repeat(4,minmax(0,1fr));gap:10px;margin:18px 0}
.card{background:var(--panel);border:1px solid var(--line);border-radius:8px;padding:10px 12px}
.card b{display:block;font-size:20px;font-variant-numeric:tabular-nums}.card span{color:var(--dim);font-size:13px}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px}
th{text-align:left;color:var(--dim);font-weight:500}th,td{border-bottom:1px solid var(--line);padding:6px 10px 6px 0;vertical-align:top}
td.num,th.num{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}svg{display:block;width:100%;min-width:900px;height:auto}
svg text{font:11px system-ui,sans-serif;fill:var(--dim)}svg .strong{fill:var(--fg)}svg .on{fill:#fff}.key{display:inline-block;width:10px;height:10px;
border-radius:2px;margin:0 4px 0 14px}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_become_markup() {
        assert_eq!(
            escape("<a href=\"x\">&"),
            "&lt;a href=&quot;x&quot;&gt;&amp;"
        );
    }
}
