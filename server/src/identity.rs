//! Member and cluster ids, computed as etcd computes them: tools and people compare them.

use sha1::{Digest, Sha1};

/// The id of a member that was there when its cluster was made.
pub fn bootstrap_member_id(peer_urls: &[String], token: &str) -> u64 {
    member_id(peer_urls, token, None)
}

/// The id of a member that was added later, at a time in seconds since 1970: a member that comes back is a new one.
pub fn added_member_id(peer_urls: &[String], token: &str, unix_seconds: i64) -> u64 {
    member_id(peer_urls, token, Some(unix_seconds))
}

/// The id of a cluster, from the members it was made of.
pub fn cluster_id(members: &[u64]) -> u64 {
    let mut members = members.to_vec();
    members.sort_unstable();
    let mut hash = Sha1::new();
    members
        .iter()
        .for_each(|member| hash.update(member.to_be_bytes()));
    head(hash)
}

/// The id of the cluster that a member of another one founds anew, with its data, at a time in nanoseconds since 1970: a
/// copy of the folder that is recovered, too, is of a third cluster.
pub fn recovered_cluster_id(former: u64, member: u64, unix_nanos: u128) -> u64 {
    let mut hash = Sha1::new();
    hash.update(b"recovered");
    hash.update(former.to_be_bytes());
    hash.update(member.to_be_bytes());
    hash.update(unix_nanos.to_be_bytes());
    // None is of no cluster.
    head(hash).max(1)
}

fn member_id(peer_urls: &[String], token: &str, unix_seconds: Option<i64>) -> u64 {
    let mut urls: Vec<_> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut hash = Sha1::new();
    urls.iter().for_each(|url| hash.update(url.as_bytes()));
    hash.update(token.as_bytes());
    if let Some(seconds) = unix_seconds {
        hash.update(seconds.to_string().as_bytes());
    }
    head(hash)
}

/// The first eight bytes of a digest.
fn head(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    digest
        .iter()
        .take(8)
        .fold(0, |id, byte| id << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcds_default_node_has_etcds_ids() {
        let member = bootstrap_member_id(&["http://localhost:2380".to_owned()], "etcd-cluster");
        assert_eq!(member, 0x8e9e_05c5_2164_694d);
        assert_eq!(cluster_id(&[member]), 0xcdf8_1819_4e3a_8c32);
    }

    #[test]
    fn the_order_of_addresses_and_members_does_not_matter() {
        let (a, b) = (
            "http://10.0.0.1:2380".to_owned(),
            "http://10.0.0.2:2380".to_owned(),
        );
        assert_eq!(
            bootstrap_member_id(&[a.clone(), b.clone()], "t"),
            bootstrap_member_id(&[b, a], "t")
        );
        assert_eq!(cluster_id(&[1, 2]), cluster_id(&[2, 1]));
    }

    #[test]
    fn token_and_time_change_the_id() {
        let urls = ["http://10.0.0.1:2380".to_owned()];
        assert_ne!(
            bootstrap_member_id(&urls, "a"),
            bootstrap_member_id(&urls, "b")
        );
        assert_ne!(
            added_member_id(&urls, "a", 1),
            added_member_id(&urls, "a", 2)
        );
        let recovered = recovered_cluster_id(1, 2, 3);
        for other in [(7, 2, 3), (1, 7, 3), (1, 2, 7)] {
            assert_ne!(recovered_cluster_id(other.0, other.1, other.2), recovered);
        }
    }
}
