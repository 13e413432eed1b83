//! Which requests of a stream are not answered yet, so that none is taken for answered by the answer of another.
//!
//! openraft remembers when it sent each request, and takes an answer that matches up to an entry for that of every
//! request that ends there. A request without entries ends where the one before it did: the answer of that one, sent
//! before this member was paused, would say that it still led after the pause, and reads would be served that are too
//! old. So an answer that would also be taken for that of a later request is kept back; the later one's own follows.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::types::RaftLogId;

/// The requests that were sent and not answered, in their order.
#[derive(Default)]
pub(super) struct OnItsWay {
    /// Entry before the first, and last entry, of each.
    requests: Mutex<VecDeque<(Option<RaftLogId>, Option<RaftLogId>)>>,
}

impl OnItsWay {
    /// A request is being sent.
    pub(super) fn sent(&self, previous: Option<RaftLogId>, last: Option<RaftLogId>) {
        self.requests.lock().push_back((previous, last));
    }

    /// Whether all are answered.
    pub(super) fn is_empty(&self) -> bool {
        self.requests.lock().is_empty()
    }

    /// The first of them is answered: the logs are the same up to an entry. Whether that may be told.
    pub(super) fn answered(&self, matched: &Option<RaftLogId>) -> bool {
        let mut requests = self.requests.lock();
        requests.pop_front();
        requests
            .front()
            .is_none_or(|(previous, last)| matched < last && matched <= previous)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_not_taken_for_that_of_a_later_request() {
        let id = |index| Some(openraft::LogId::new_term_index(1, index));
        let requests = OnItsWay::default();
        requests.sent(id(0), id(5));
        requests.sent(id(5), id(9));
        assert!(
            requests.answered(&id(5)),
            "the next one has entries of its own"
        );
        requests.sent(id(9), id(9));
        assert!(!requests.answered(&id(9)), "the next one ends there, too");
        assert!(requests.answered(&id(9)));
        requests.sent(id(9), id(9));
        requests.sent(id(9), id(9));
        assert!(!requests.answered(&id(9)));
        assert!(requests.answered(&id(9)));
    }
}
