//! `holdfast snapshot status`: what `etcdutl snapshot status` prints, to the letter.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;

use serde_json::json;
use store::bolt::read::Database;
use store::etcd::status::{Status, status};

use super::{Failure, Progress, file};
use crate::config::StatusFormat;
use crate::text::human;

const TITLES: [&str; 5] = ["HASH", "REVISION", "TOTAL KEYS", "TOTAL SIZE", "VERSION"];

/// Checks a file and prints what is in it.
pub(super) fn run(path: &Path, format: StatusFormat) -> Result<(), Failure> {
    let file = file::open(path)?;
    if file::has_digest(file.metadata()?.len()) {
        file::check_digest(path, &file)?;
    }
    let shown = path.display();
    let failed = |error| format!("{shown}: {error}");
    let database = Database::open(&file).map_err(failed)?;
    let (mut progress, size) = (Progress::new(), database.size());
    let found = status(&database, &mut |read| {
        progress.tell(|| format!("read {} of {}", human(read), human(size)));
    });
    let text = text(&found.map_err(failed)?, format);
    io::stdout().write_all(text.as_bytes())?;
    Ok(())
}

fn text(status: &Status, format: StatusFormat) -> String {
    let Status {
        hash,
        revision,
        total_keys,
        total_size,
        version,
    } = status;
    let cells = [
        format!("{hash:x}"),
        revision.to_string(),
        total_keys.to_string(),
        human(*total_size),
        version.clone(),
    ];
    match format {
        StatusFormat::Simple => cells.join(", ") + "\n",
        StatusFormat::Table => table(&cells),
        StatusFormat::Json => {
            let version = json!(version);
            format!(
                r#"{{"hash":{hash},"revision":{revision},"totalKey":{total_keys},"totalSize":{total_size},"version":{version}}}"#
            ) + "\n"
        }
        StatusFormat::Fields => format!(
            "\"Hash\" : {hash}\n\"Revision\" : {revision}\n\"Keys\" : {total_keys}\n\"Size\" : {total_size}\n\"Version\" : {version}\n"
        ),
    }
}

fn table(cells: &[String; 5]) -> String {
    let widths: Vec<_> = TITLES
        .iter()
        .zip(cells)
        .map(|(title, cell)| title.len().max(cell.len()))
        .collect();
    let rule = |left: &str, middle: &str, right: &str| {
        let parts: Vec<_> = widths.iter().map(|width| "─".repeat(width + 2)).collect();
        format!("{left}{}{right}\n", parts.join(middle))
    };
    let mut text = rule("┌", "┬", "┐");
    for (title, width) in TITLES.iter().zip(&widths) {
        // Centred, with the odd space behind.
        let _ = write!(text, "│ {title:^width$} ");
    }
    text += "│\n";
    text += &rule("├", "┼", "┤");
    for (cell, width) in cells.iter().zip(&widths) {
        let _ = write!(text, "│ {cell:>width$} ");
    }
    text += "│\n";
    text + &rule("└", "┴", "┘")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_format_is_etcdutls() {
        let status = Status {
            hash: 0x75d3_e32c,
            revision: 7,
            total_keys: 3,
            total_size: 45_056,
            version: "3.7.0".to_owned(),
        };
        for (format, expected) in [
            (StatusFormat::Simple, "75d3e32c, 7, 3, 45 kB, 3.7.0\n"),
            (
                StatusFormat::Table,
                "┌──────────┬──────────┬────────────┬────────────┬─────────┐\n\
                 │   HASH   │ REVISION │ TOTAL KEYS │ TOTAL SIZE │ VERSION │\n\
                 ├──────────┼──────────┼────────────┼────────────┼─────────┤\n\
                 │ 75d3e32c │        7 │          3 │      45 kB │   3.7.0 │\n\
                 └──────────┴──────────┴────────────┴────────────┴─────────┘\n",
            ),
            (
                StatusFormat::Json,
                "{\"hash\":1976820524,\"revision\":7,\"totalKey\":3,\"totalSize\":45056,\"version\":\"3.7.0\"}\n",
            ),
            (
                StatusFormat::Fields,
                "\"Hash\" : 1976820524\n\"Revision\" : 7\n\"Keys\" : 3\n\"Size\" : 45056\n\"Version\" : 3.7.0\n",
            ),
        ] {
            assert_eq!(text(&status, format), expected);
        }
    }
}
