//! The log: one line per event in the shape of etcd's, so that what reads etcd's log reads this one.
//!
//! Events are filtered when their call site is first met, so a line below the level costs a load and a compare.
//! Libraries speak more quietly than the node: their notices become debug lines, and their debug lines are dropped.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    fs::OpenOptions,
    io::{self, Write},
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
    subscriber::Interest,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt as _},
};

/// The target of events that end the process; their level reads `fatal`.
pub const FATAL: &str = "server::fatal";

/// What is logged, how and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The least important level to log.
    pub level: LevelFilter,
    /// The form of a line.
    pub format: Format,
    /// Where lines go.
    pub outputs: Vec<Output>,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// Tab-separated text.
    Console,
}

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            level: LevelFilter::INFO,
            format: Format::Json,
            outputs: vec![Output::Stderr],
        }
    }
}

impl Options {
    /// From the words of etcd's flags.
    pub fn new(level: &str, format: &str, outputs: &[String]) -> Self {
        let level = match level {
            "debug" => LevelFilter::DEBUG,
            "warn" => LevelFilter::WARN,
            // What ends the process is logged as an error, so these differ in nothing else.
            "error" | "panic" | "fatal" => LevelFilter::ERROR,
            _ => LevelFilter::INFO,
        };
        let format = if format == "console" {
            Format::Console
        } else {
            Format::Json
        };
        let output = |name: &String| match name.as_str() {
            "default" | "stderr" | "systemd/journal" => Output::Stderr,
            "stdout" => Output::Stdout,
            path => Output::File(PathBuf::from(path)),
        };
        let mut outputs: Vec<_> = outputs.iter().map(output).collect();
        outputs.dedup();
        if outputs.is_empty() {
            outputs.push(Output::Stderr);
        }
        Self {
            level,
            format,
            outputs,
        }
    }
}

/// An error and what caused it, as one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Starts logging for the whole process. Fails if a file cannot be opened or logging has been started before.
pub fn start(options: &Options) -> io::Result<()> {
    let mut writers: Vec<Box<dyn Write + Send>> = Vec::new();
    for output in &options.outputs {
        writers.push(match output {
            Output::Stderr => Box::new(io::stderr()),
            Output::Stdout => Box::new(io::stdout()),
            Output::File(path) => {
                let opened = OpenOptions::new().create(true).append(true).open(path);
                Box::new(opened.map_err(|error| {
                    io::Error::new(
                        error.kind(),
                        format!("cannot open the log file {}: {error}", path.display()),
                    )
                })?)
            }
        });
    }
    let subscriber =
        tracing_subscriber::registry().with(Lines::new(options.level, options.format, writers));
    tracing::subscriber::set_global_default(subscriber).map_err(io::Error::other)
}

/// Writes events as lines.
pub struct Lines {
    level: LevelFilter,
    format: Format,
    outputs: Mutex<Vec<Box<dyn Write + Send>>>,
}

impl Lines {
    /// Lines of at least this level to all of the outputs.
    pub fn new(level: LevelFilter, format: Format, outputs: Vec<Box<dyn Write + Send>>) -> Self {
        Self {
            level,
            format,
            outputs: Mutex::new(outputs),
        }
    }

    fn shows(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && level_of(metadata).is_some_and(|level| level <= self.level)
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.shows(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.shows(metadata)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        thread_local! {
            static LINE: RefCell<String> = const { RefCell::new(String::new()) };
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            match self.format {
                Format::Json => json_line(line, event, SystemTime::now()),
                Format::Console => console_line(line, event, SystemTime::now()),
            }
            for output in self.outputs.lock().iter_mut() {
                // Nobody is left to tell when the log itself cannot be written.
                let _ = output.write_all(line.as_bytes());
            }
        });
    }
}

/// The level an event is logged at; none if it never is.
fn level_of(metadata: &Metadata<'_>) -> Option<Level> {
    let crate_name = metadata.target().split("::").next().unwrap_or_default();
    let is_own = matches!(crate_name, "server" | "store" | "proto" | "holdfast");
    match *metadata.level() {
        level if is_own => Some(level.min(Level::DEBUG)),
        level @ (Level::ERROR | Level::WARN) => Some(level),
        Level::INFO => Some(Level::DEBUG),
        _ => None,
    }
}

fn word(metadata: &Metadata<'_>) -> &'static str {
    match level_of(metadata) {
        Some(Level::ERROR) if metadata.target() == FATAL => "fatal",
        Some(Level::ERROR) => "error",
        Some(Level::WARN) => "warn",
        Some(Level::INFO) => "info",
        _ => "debug",
    }
}

fn json_line(line: &mut String, event: &Event<'_>, now: SystemTime) {
    let metadata = event.metadata();
    let _ = write!(line, r#"{{"level":"{}","ts":""#, word(metadata));
    write_time(line, now);
    line.push_str(r#"","caller":""#);
    write_caller(line, metadata);
    line.push_str(r#"","msg":"#);
    let mut message = Message {
        line,
        is_found: false,
    };
    event.record(&mut message);
    if !message.is_found {
        line.push_str(r#""""#);
    }
    event.record(&mut Fields { line });
    line.push_str("}\n");
}

fn console_line(line: &mut String, event: &Event<'_>, now: SystemTime) {
    let metadata = event.metadata();
    write_time(line, now);
    let _ = write!(line, "\t{}\t", word(metadata));
    write_caller(line, metadata);
    line.push('\t');
    event.record(&mut Text { line });
    let start = line.len();
    line.push('{');
    event.record(&mut Fields { line });
    if line.len() == start + 1 {
        line.truncate(start);
    } else {
        // The first field came with a comma before it.
        line.replace_range(start..start + 2, "\t{");
        line.push('}');
    }
    line.push('\n');
}

/// `2006-01-02T15:04:05.000000Z`, always in UTC.
fn write_time(line: &mut String, now: SystemTime) {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let micros = since.subsec_micros();
    let _ = write!(
        line,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
    );
}

/// The Gregorian date so many days after 1970-01-01, counted in years that begin in March: the leap day is then the
/// last one of its year.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (400 * era + year_of_era + u64::from(month <= 2), month, day)
}

/// The last two parts of the source file's path, as etcd shows them, without the `src` in between.
fn write_caller(line: &mut String, metadata: &Metadata<'_>) {
    let mut parts = metadata
        .file()
        .unwrap_or("unknown")
        .rsplit('/')
        .filter(|part| *part != "src");
    let name = parts.next().unwrap_or_default();
    if let Some(folder) = parts.next() {
        let _ = write!(line, "{folder}/");
    }
    let _ = write!(line, "{name}:{}", metadata.line().unwrap_or_default());
}

/// Finds the message and writes it as a JSON string.
struct Message<'a> {
    line: &'a mut String,
    is_found: bool,
}

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.is_found = true;
            write_string(self.line, format_args!("{value:?}"));
        }
    }
}

/// Finds the message and writes it as it is.
struct Text<'a> {
    line: &'a mut String,
}

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.line, "{value:?}");
        }
    }
}

/// Writes everything but the message as JSON members, each after a comma.
struct Fields<'a> {
    line: &'a mut String,
}

impl Fields<'_> {
    fn key(&mut self, field: &Field) {
        self.line.push(',');
        write_string(
            self.line,
            format_args!("{}", field.name().replace('_', "-")),
        );
        self.line.push(':');
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() != "message" {
            self.key(field);
            write_string(self.line, format_args!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() != "message" {
            self.key(field);
            write_string(self.line, format_args!("{value}"));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.key(field);
        let _ = write!(self.line, "{value}");
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.key(field);
        let _ = write!(self.line, "{value}");
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.key(field);
        // JSON has no NaN and no infinities.
        let _ = if value.is_finite() {
            write!(self.line, "{value}")
        } else {
            write!(self.line, "null")
        };
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.key(field);
        let _ = write!(self.line, "{value}");
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.key(field);
        write_string(self.line, format_args!("{value}"));
    }
}

/// Writes text as a JSON string, escaping on the way.
fn write_string(line: &mut String, text: fmt::Arguments<'_>) {
    struct Escaped<'a>(&'a mut String);
    impl fmt::Write for Escaped<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for c in text.chars() {
                match c {
                    '"' => self.0.push_str("\\\""),
                    '\\' => self.0.push_str("\\\\"),
                    '\n' => self.0.push_str("\\n"),
                    '\r' => self.0.push_str("\\r"),
                    '\t' => self.0.push_str("\\t"),
                    c if c.is_control() => write!(self.0, "\\u{:04x}", u32::from(c))?,
                    c => self.0.push(c),
                }
            }
            Ok(())
        }
    }
    line.push('"');
    let _ = Escaped(line).write_fmt(text);
    line.push('"');
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `speak` logs.
    fn logged(level: LevelFilter, format: Format, speak: impl FnOnce()) -> Vec<String> {
        let captured = Captured::default();
        let lines = Lines::new(level, format, vec![Box::new(captured.clone())]);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(lines), speak);
        let bytes = captured.0.lock().clone();
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn an_error_is_told_with_its_causes() {
        let error = store::log::LogError::Io {
            doing: "read",
            file: "wal/1.log".to_owned(),
            source: io::ErrorKind::PermissionDenied.into(),
        };
        let told = chain(&error);
        assert!(told.starts_with("cannot read wal/1.log; "), "{told}");
        assert!(told.ends_with(": permission denied"), "{told}");
    }

    #[test]
    fn a_line_is_json_with_etcds_keys_in_etcds_order() {
        let lines = logged(LevelFilter::INFO, Format::Json, || {
            tracing::info!(name = "a\"b\n", count = 3, is_on = true, took = ?Duration::from_millis(5), "it \u{1}works");
        });
        let [line] = &lines[..] else {
            panic!("{lines:?}")
        };
        assert!(line.starts_with(r#"{"level":"info","ts":""#), "{line}");
        let parsed: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(parsed["msg"], "it \u{1}works");
        assert_eq!(parsed["name"], "a\"b\n");
        assert_eq!(parsed["count"], 3);
        assert_eq!(parsed["is-on"], true);
        assert_eq!(parsed["took"], "5ms");
        let caller = parsed["caller"].as_str().unwrap();
        assert!(caller.starts_with("server/logging.rs:"), "{caller}");
        let ts = parsed["ts"].as_str().unwrap();
        assert_eq!(ts.len(), "2006-01-02T15:04:05.000000Z".len());
        assert!(ts.ends_with('Z'));
    }

    #[test]
    fn lines_below_the_level_are_not_written() {
        let lines = logged(LevelFilter::WARN, Format::Json, || {
            tracing::info!("no");
            tracing::warn!("yes");
            tracing::error!(target: FATAL, "the end");
        });
        assert_eq!(lines.len(), 2);
        assert!(lines[0].contains(r#""level":"warn""#));
        assert!(lines[1].contains(r#""level":"fatal""#));
    }

    #[test]
    fn libraries_are_one_level_quieter() {
        let speak = || {
            tracing::debug!(target: "openraft::core", "chatter");
            tracing::info!(target: "openraft::core", "notice");
            tracing::warn!(target: "openraft::core", "problem");
        };
        let at_info = logged(LevelFilter::INFO, Format::Json, speak);
        assert_eq!(at_info.len(), 1);
        assert!(at_info[0].contains("problem"));
        let at_debug = logged(LevelFilter::DEBUG, Format::Json, speak);
        assert_eq!(at_debug.len(), 2);
        assert!(at_debug[0].starts_with(r#"{"level":"debug""#) && at_debug[0].contains("notice"));
    }

    #[test]
    fn the_console_form_is_one_line_of_text() {
        let lines = logged(LevelFilter::INFO, Format::Console, || {
            tracing::info!("alone");
            tracing::info!(a = 1, b = "x", "with fields");
        });
        assert!(
            lines[0].contains("\tinfo\t") && lines[0].ends_with("\talone"),
            "{}",
            lines[0]
        );
        assert!(
            lines[1].ends_with("\twith fields\t{\"a\":1,\"b\":\"x\"}"),
            "{}",
            lines[1]
        );
    }

    #[test]
    fn times_are_the_dates_people_expect() {
        let at = |seconds| {
            let mut line = String::new();
            write_time(
                &mut line,
                UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(42),
            );
            line
        };
        assert_eq!(at(0), "1970-01-01T00:00:00.000042Z");
        assert_eq!(at(951_827_696), "2000-02-29T12:34:56.000042Z");
        assert_eq!(at(1_767_225_599), "2025-12-31T23:59:59.000042Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000042Z");
    }

    #[test]
    fn a_file_output_that_cannot_be_opened_is_named() {
        let options = Options::new("info", "json", &["/nonexistent/dir/log".to_owned()]);
        let error = start(&options).unwrap_err().to_string();
        assert!(error.contains("/nonexistent/dir/log"), "{error}");
    }
}
