//! What `recover` says: whose folder it is and what is in it, what will be done, what is lost, and what to type next.

use std::fmt::Write as _;
use std::path::Path;

use proto::etcd::etcdserverpb::Member;
use store::LogId;

use super::survey::{Survey, Work};
use crate::data_dir::Recovering;
use crate::text::{Align, table};

/// Said where the member can do without others.
pub(super) const NOTHING: &str = "
Nothing is to be recovered: this member is the only one that votes in its cluster. Start it as usual.
";

fn position(id: Option<LogId>) -> String {
    id.map_or_else(
        || "none".to_owned(),
        |id| format!("term {}, index {}", id.term, id.index),
    )
}

/// Name and id.
fn called(member: &Member) -> String {
    if member.name.is_empty() {
        format!("{:x} (which never started)", member.id)
    } else {
        format!("{} ({:x})", member.name, member.id)
    }
}

fn own(survey: &Survey) -> String {
    survey
        .own()
        .map_or_else(|| format!("{:x}", survey.identity.member_id), called)
}

/// What is in the folder.
pub(super) fn standing(data_dir: &Path, survey: &Survey) -> String {
    let mut text = format!(
        "The folder {} is that of member {} in cluster {:x}.\n\n",
        data_dir.display(),
        own(survey),
        survey.identity.cluster_id
    );
    let row = |member: &Member| {
        let role = match (member.id == survey.identity.member_id, member.is_learner) {
            (true, _) => "this one",
            (false, true) => "learner",
            (false, false) => "",
        };
        let urls = member.peer_urls.join(",");
        let name = if member.name.is_empty() {
            "-"
        } else {
            &member.name
        };
        vec![
            name.to_owned(),
            format!("{:x}", member.id),
            urls,
            role.to_owned(),
        ]
    };
    let rows: Vec<_> = survey.members.iter().map(row).collect();
    let head = ["MEMBER", "ID", "PEER ADDRESSES", ""].map(|title| (title, Align::Left));
    for line in table(&head, &rows) {
        let _ = writeln!(text, "  {line}");
    }
    let uncommitted = match survey.uncommitted() {
        0 => "all of the log".to_owned(),
        1 => "1 entry behind it".to_owned(),
        entries => format!("{entries} entries behind it"),
    };
    let _ = write!(
        text,
        "
  last entry in the log     {}
  known to be committed     {} ({uncommitted})
  applied to the database   {}
  revision in the database  {}
  highest term seen         {}
",
        position(Some(survey.last)),
        position(survey.committed),
        position(survey.applied),
        survey.revision,
        survey.term,
    );
    text
}

/// What will be done, and what is lost.
pub(super) fn plan(data_dir: &Path, survey: &Survey, work: &Work) -> String {
    let data_dir = data_dir.display();
    let own = own(survey);
    let mut text = String::new();
    if survey.has_begun {
        text.push_str(
            "\nA recovery of this folder has begun and was cut short. This one ends it.\n",
        );
    }
    text.push_str("\nWhat will be done, in this folder alone:\n\n");
    if survey.has_begun {
        let _ = writeln!(
            text,
            "  1. The folder has got a new cluster id already, and keeps it: {:x}.",
            survey.identity.cluster_id
        );
    } else {
        text.push_str(
            "  1. The folder gets a new cluster id. Members of the old cluster can then neither talk to this
     member, nor vote for it, nor be followed by it. Until step 3 is done no node starts on it.\n",
        );
    }
    text.push_str("  2. What this member remembers of the others (peers.json) is removed.\n");
    let removed: Vec<_> = work.removed.iter().map(called).collect();
    let _ = match removed.as_slice() {
        [] => writeln!(
            text,
            "  3. The log gets what is still missing in term {} to make {own} the only voter.",
            survey.term + 1
        ),
        removed => writeln!(
            text,
            "  3. The log gets two more entries, in term {}: the first removes {} from the members, whose
     ids are never used again; the second makes {own} the only voter.",
            survey.term + 1,
            removed.join(", ")
        ),
    };
    text.push_str("\nKeys, values, revisions and history stay as they are.\n\nWhat is kept, and what is lost:\n\n");
    text.push_str(&match survey.uncommitted() {
        0 => "  - Kept: all that is in this log.\n".to_owned(),
        entries => format!(
            "  - Kept: all that is in this log, also the last {entries} {} not known to be committed: a client
    may have been told that they succeeded.\n",
            if entries == 1 {
                "entry, which is"
            } else {
                "entries, which are"
            }
        ),
    });
    let _ = write!(
        text,
        "  - Lost: writes that the other members acknowledged and that never reached this log. Nobody can
    tell from here whether there are any, and which.

Before you agree:

  - If a majority of the members still runs or can be brought back, do not do this: nothing need be
    lost then. Members that are gone are removed with etcdctl member remove.
  - Copy the folder: there is no other way back.
  - Recover one member alone: the one that has the most. On every machine whose folder survived, run
      holdfast recover --data-dir {data_dir} --dry-run
    and take the one with the highest last entry in the log: the term counts first, then the index.
  - Never start another old member with its old folder again: move those folders away. What they have
    and this one lacks does not come back, and clients that reach them see another cluster.
  - Revisions that are lost will be given again, to other writes. Restart clients that watch, or that
    keep what they have read. Where not all of them can be restarted (Kubernetes), start the
    recovered member, and then make yet another cluster from it, with higher revisions:
      holdfast snapshot save FILE
      holdfast snapshot restore FILE --bump-revision 1000000000 --mark-compacted \\
        --initial-cluster-token NEWTOKEN ...
"
    );
    text
}

/// What was done, and what comes next.
pub(super) fn done(data_dir: &Path, folder: &Recovering, survey: &Survey) -> String {
    let own = survey.own().cloned().unwrap_or_default();
    let url = own.peer_urls.first().map_or("http://HOST:2380", |url| url);
    let name = if own.name.is_empty() {
        "NAME"
    } else {
        &own.name
    };
    let mut first = format!("holdfast --name {name} --data-dir {}", data_dir.display());
    if folder.has_wal_elsewhere() {
        let _ = write!(first, " --wal-dir {}", folder.wal().display());
    }
    format!(
        "
Done. Member {} is the only one of the new cluster {:x}.

Start it with the flags that it always had; those that say how the first cluster was made count no more:
  {first} ...
See it alone, and add members, one at a time:
  etcdctl member list
  etcdctl member add NEW --peer-urls=http://NEWHOST:2380
Then start each new one, on its machine, with an empty data folder:
  holdfast --name NEW --data-dir DIR --initial-cluster-state existing \\
    --initial-cluster {name}={url},NEW=http://NEWHOST:2380 \\
    --initial-advertise-peer-urls http://NEWHOST:2380 --listen-peer-urls http://NEWHOST:2380 ...
",
        called(&own),
        folder.identity().cluster_id,
    )
}
