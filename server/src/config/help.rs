//! The texts of `--help` and `--version`.

use std::fmt::Write as _;

use super::{
    flags::{self, Flag, Group, Standing},
    parse,
};

/// The etcd version whose behaviour is followed; clients and tools look at it.
pub const ETCD_VERSION: &str = "3.7.1";
/// The etcd cluster and storage version reported.
pub const ETCD_CLUSTER_VERSION: &str = "3.7.0";
/// Our own version.
pub const HOLDFAST_VERSION: &str = env!("CARGO_PKG_VERSION");

const INTRODUCTION: &str = "\
Holdfast keeps small, important data: keys and values in order, with history and watches.
It speaks etcd's v3 protocol. etcdctl and etcd's clients can read and write keys, run transactions,
watch, hold leases and locks, elect leaders, compact, and ask for status and health. Several members
make a cluster that outlives the loss of some. The resource API serves kubectl and controllers from
the same store. Users and roles, and TLS on etcd's ports, are not built yet; calls and flags for
them are refused.

Start a node for a try, with its data in ./default.etcd and the resource API on port 6443:
  holdfast
  kubectl --kubeconfig default.etcd/admin.kubeconfig get namespaces

Start one to stay:
  holdfast --name=one --data-dir=/var/lib/holdfast \\
    --listen-client-urls=http://10.0.0.1:2379 --advertise-client-urls=http://10.0.0.1:2379

Start a cluster of three on this machine, for a try:
  holdfast dev

Other commands:
  holdfast dev              run a cluster on this machine
  holdfast kubeconfig       print what kubectl needs to reach a node's resource API
  holdfast status           ask the members of a cluster how they are
  holdfast dump log         print the raft log of a stopped node, one JSON object per line
  holdfast dump state       print the database of a stopped node
  holdfast snapshot         check, restore and save snapshots, also those of etcd
  holdfast recover          go on with one member of a cluster whose majority is lost for good
  holdfast help             this text
  holdfast help dev         the flags of holdfast dev
  holdfast help kubeconfig  the flags of holdfast kubeconfig
  holdfast help status      the flags of holdfast status
  holdfast help dump        the flags of holdfast dump
  holdfast help snapshot    the flags of holdfast snapshot
  holdfast help recover     the flags of holdfast recover
  holdfast help --markdown  all flags as a table in Markdown
  holdfast --version        versions

A flag is written -flag or --flag, with =value or a space; a switch alone or with =true, =false.
Each flag can also be a variable: --data-dir is ETCD_DATA_DIR. A flag beats a variable.
";

const SECTIONS: &[(Group, &str)] = &[
    (Group::Member, "The node"),
    (Group::Own, "Only in Holdfast"),
    (Group::Cluster, "Identity and cluster"),
    (Group::Limits, "Limits"),
    (Group::Monitoring, "Logs and metrics"),
    (Group::Security, "Security"),
    (Group::Tuning, "Tuning"),
];

/// The text of `holdfast --help`.
pub(super) fn node() -> String {
    let mut text = INTRODUCTION.to_owned();
    for (group, title) in SECTIONS {
        let working: Vec<_> = of(flags::NODE, *group, Standing::Works).collect();
        if !working.is_empty() {
            let _ = write!(text, "\n{title}:\n");
            working.iter().for_each(|flag| describe(&mut text, flag));
        }
    }
    text.push_str("\nRefused for now, because to ignore them would be dangerous:\n");
    names(&mut text, Standing::NotBuilt);
    text.push_str("\nAccepted so that an etcd command line starts, without effect (a warning is logged if set):\n");
    names(&mut text, Standing::NoEffect);
    text.push_str(
        "\nNames with the prefix --experimental- are accepted for flags that once had it.\n",
    );
    text
}

/// The text of `holdfast dump --help`.
pub(super) fn dump() -> String {
    let mut text = "\
Usage: holdfast dump log [flags]      (or without the word log)
       holdfast dump state [flags]

Both read the folder of a node that is not running, and change nothing.

log prints the raft log, oldest entry first, one JSON object per line. Damage and a torn end are
lines of their own.

state prints a summary of the database, then what is in it: what describes it (meta), live keys
(tip), all versions of all keys (kv), and the changes in their order (log). What cannot be
understood is printed as it is stored. The database is as of its last flush; later entries are in
the raft log.

If anything is damaged, the exit code is 1.
"
    .to_owned();
    for (title, table) in [("log", flags::DUMP), ("state", flags::DUMP_STATE)] {
        let _ = write!(text, "\nFlags of {title}:\n");
        table.iter().for_each(|flag| describe(&mut text, flag));
    }
    text
}

/// The text of `holdfast kubeconfig --help`.
pub(super) fn kubeconfig() -> String {
    let mut text = "\
Usage: holdfast kubeconfig [flags]

Prints what kubectl needs to reach the resource API of the node whose data folder this is: its
address, the authority that its certificate is from, and a client certificate for everything.
  holdfast kubeconfig > ~/.kube/config

Flags:
"
    .to_owned();
    flags::KUBECONFIG
        .iter()
        .for_each(|flag| describe(&mut text, flag));
    text
}

/// The text of `holdfast snapshot --help`.
pub(super) fn snapshot() -> String {
    let mut text = "\
Usage: holdfast snapshot status FILE [flags]
       holdfast snapshot restore FILE [flags]
       holdfast snapshot save FILE [flags]

Works on snapshots as etcd makes them: those of etcdctl snapshot save, from etcd 3.4 to 3.7 or from
Holdfast, and copies of a stopped etcd's member/snap/db. etcdutl snapshot restore takes ours.

holdfast snapshot status: checks a whole file and tells its hash, newest revision, live keys, size
and storage version.
"
    .to_owned();
    let mut list = |title: &str, table: &'static [Flag]| {
        text.push_str(title);
        table.iter().for_each(|flag| describe(&mut text, flag));
    };
    list("", flags::SNAPSHOT_STATUS);
    list(
        "
holdfast snapshot restore: makes a new data folder from a file. Keys, revisions, versions and the
history back to the compacted revision are those of the file; the cluster and its member are new.
",
        flags::SNAPSHOT_RESTORE,
    );
    list(
        "
holdfast snapshot save: saves a snapshot of a running member, as etcdctl does.
",
        flags::SNAPSHOT_SAVE,
    );
    text
}

/// The text of `holdfast recover --help`.
pub(super) fn recover() -> String {
    let mut text = "\
Usage: holdfast recover [flags]

For a cluster that has lost its majority for good, for example two machines of three. Without a
majority nothing can be written, and that cannot be helped in another way: the survivors cannot
know what the others did. This makes one survivor, which is stopped, the only member of a new
cluster that keeps the data; new members are then added to it as usual.

Writes that the lost members acknowledged and that never reached the survivor are lost. So run it
with --dry-run on every survivor, take the one with the highest last entry in the log (term, then
index), and never start another old member with its old folder again.

It says what is in the folder, what it will do and what that costs, and asks. If it is killed, the
folder is as it was, or no member starts on it before the command was run again. If nothing is to
be recovered it says so and changes nothing. The exit code is 1 if it refuses.

If a majority can still be brought back, start those members instead: nothing is lost then.

Flags:
"
    .to_owned();
    flags::RECOVER
        .iter()
        .for_each(|flag| describe(&mut text, flag));
    text
}

/// The text of `holdfast status --help`.
pub(super) fn status() -> String {
    let mut text = "\
Usage: holdfast status [flags]

Asks members of a cluster, of Holdfast or of etcd, how they are, and prints a row for each:

  NAME, ID    who answers
  ENDPOINT    the address that was asked
  ROLE        leader: takes all writes; follower: holds the same and votes; learner: does not vote
              yet; no answer: see ERRORS
  TERM        how many elections there were, about
  INDEX       the last entry of the raft log that it knows to be held by a majority
  APPLIED     the last entry that is in its database
  LAG         how many entries its database is behind the leader
  SIZE        its database on disk; IN USE: without what a defragmentation would free
  VERSION     the version of etcd that it speaks like
  ERRORS      alarms, and why it does not answer

The exit code is 0 if all of them answer and a majority of them knows the same leader, else 1.

Flags:
"
    .to_owned();
    flags::STATUS
        .iter()
        .for_each(|flag| describe(&mut text, flag));
    text
}

/// The text of `holdfast dev --help`.
pub(super) fn dev() -> String {
    let mut text = "\
Usage: holdfast dev [flags]

Runs a cluster on this machine, for a try or for tests: each node is a process with a folder, a log
and ports of its own. Shows how they are until Ctrl-C (or SIGTERM) ends all of them; the data stays,
and the next start goes on with it. If a node dies, the screen says why, and the others go on. If
this program is killed, the nodes end, too.

  node   client port   peer port   folder            log
  n1     2379          2380        holdfast-dev/n1   holdfast-dev/n1.log
  n2     2389          2390        holdfast-dev/n2   holdfast-dev/n2.log
  n3     2399          2400        holdfast-dev/n3   holdfast-dev/n3.log

Flags:
"
    .to_owned();
    flags::DEV.iter().for_each(|flag| describe(&mut text, flag));
    text
}

/// The text of `holdfast --version`. Tools read the first line.
pub(super) fn version() -> String {
    format!(
        "etcd Version: {ETCD_VERSION}\nGit SHA: none\nGo Version: none (Rust)\nGo OS/Arch: {}/{}\nHoldfast Version: {HOLDFAST_VERSION}\n",
        std::env::consts::OS,
        architecture(),
    )
}

/// The machine's architecture under Go's name.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn of(
    table: &'static [Flag],
    group: Group,
    standing: Standing,
) -> impl Iterator<Item = &'static Flag> {
    table
        .iter()
        .filter(move |flag| flag.group == group && flag.standing == standing)
}

/// What a value must be, where neither the flag's kind nor its sentence says so.
fn least(flag: &Flag) -> &'static str {
    match flag.name {
        "memory-budget" => ", at least 64MiB",
        _ => "",
    }
}

fn describe(text: &mut String, flag: &Flag) {
    // The largest number stands for "no limit" and would only puzzle.
    let has_default =
        !flag.default.is_empty() && flag.default != i64::MAX.to_string() && flag.default != "false";
    let default = if has_default {
        format!(" [{}{}]", flag.default, least(flag))
    } else {
        String::new()
    };
    let _ = writeln!(text, "  --{}{default}\n      {}", flag.name, flag.help);
}

/// The names of all flags of a standing, wrapped.
fn names(text: &mut String, standing: Standing) {
    let mut line = String::from(" ");
    for flag in flags::NODE
        .iter()
        .filter(|flag| flag.standing == standing && flag.group != Group::Legacy)
    {
        if line.len() + flag.name.len() > 96 {
            let _ = writeln!(text, "{line}");
            line = String::from(" ");
        }
        let _ = write!(line, " {}", flag.name);
    }
    let _ = writeln!(text, "{line}");
}

/// The flags as a table in Markdown, for the documentation: `holdfast help --markdown`.
pub(super) fn markdown() -> String {
    let mut text = "| flag | variable | default | today | |\n|---|---|---|---|---|\n".to_owned();
    for flag in flags::NODE
        .iter()
        .filter(|flag| flag.group != Group::Legacy)
    {
        let standing = match flag.standing {
            Standing::Works => "works",
            Standing::NoEffect => "accepted, no effect",
            Standing::NotBuilt => "refused",
        };
        let default = if flag.default.is_empty() {
            String::new()
        } else {
            format!("`{}`{}", flag.default, least(flag))
        };
        let variable = parse::variable_of(flag.name);
        let _ = writeln!(
            text,
            "| `--{}` | `{variable}` | {default} | {standing} | {} |",
            flag.name,
            in_code(flag.help),
        );
    }
    text
}

/// A sentence for Markdown: words such as `<name>.etcd`, which would pass for HTML, in backticks.
fn in_code(sentence: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_end_matches([';', ',', '.']);
        if bare.contains('<') {
            format!("`{bare}`{}", &word[bare.len()..])
        } else {
            word.to_owned()
        }
    };
    sentence.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_flag_that_works_with_its_sentence() {
        let text = node();
        for flag in flags::NODE
            .iter()
            .filter(|flag| flag.standing == Standing::Works)
        {
            assert!(
                text.contains(&format!("  --{}", flag.name)),
                "--{}",
                flag.name
            );
            assert!(text.contains(flag.help), "--{}", flag.name);
        }
    }

    #[test]
    fn help_names_every_command_and_the_least_memory() {
        let text = node();
        for command in [
            "dev",
            "status",
            "dump log",
            "dump state",
            "snapshot",
            "recover",
            "help",
            "help dev",
            "help status",
            "help dump",
            "help snapshot",
            "help recover",
            "help --markdown",
            "--version",
        ] {
            assert!(
                text.contains(&format!("  holdfast {command}  ")),
                "{command}"
            );
        }
        assert!(text.contains("  --memory-budget [512MiB, at least 64MiB]\n"));
    }

    #[test]
    fn help_fits_a_terminal_of_100_columns() {
        for line in [node(), dump(), snapshot(), recover(), status(), dev()]
            .iter()
            .flat_map(|text| text.lines())
        {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }

    #[test]
    fn the_documentation_is_what_the_command_prints() {
        let documentation = include_str!("../../../docs/flags.md");
        assert!(
            documentation.contains(markdown().trim_end()),
            "put what `holdfast help --markdown` prints into docs/flags.md"
        );
    }

    #[test]
    fn the_documentation_has_a_row_of_five_cells_for_each_flag() {
        let text = markdown();
        assert!(
            text.contains("| `--name` | `ETCD_NAME` | `default` | works |"),
            "{text}"
        );
        assert!(text.contains("; `<name>.etcd` if not given"), "{text}");
        assert!(text.contains("| `512MiB`, at least 64MiB |"), "{text}");
        let cells = |row: &str| row.matches('|').count();
        assert!(text.lines().all(|row| cells(row) == 6), "{text}");
    }

    #[test]
    fn the_first_line_of_the_version_is_etcds() {
        let text = version();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "etcd Version: 3.7.1");
        assert!(lines[1].starts_with("Git SHA: "));
        assert!(lines[2].starts_with("Go Version: "));
        assert!(lines[3].starts_with("Go OS/Arch: linux/"));
        assert!(lines[4].starts_with("Holdfast Version: "));
    }
}
