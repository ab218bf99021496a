//! Appending in memory mode: at once, on the thread that submits. There is no disk to wait for, and to hand a commit to
//! another thread would cost more than to number its records.

use std::ops::Range;
use std::sync::{MutexGuard, TryLockError};

use super::appender::enter_keys;
use super::gather::{Group, Pending, Reply, Waiting};
use super::state::Shared;
use super::writer::{AppendError, GROUP_BYTES};

/// What is to be said once the turn is over: those who listen may submit something themselves.
#[derive(Default)]
struct Answers {
    appended: Vec<(Waiting, Range<u64>)>,
    refused: Vec<(Reply, AppendError)>,
}

impl Answers {
    fn send(self) {
        self.refused.into_iter().for_each(|(reply, error)| reply.send(Err(error)));
        self.appended.into_iter().for_each(|(waiting, seqs)| waiting.answer(Ok(seqs)));
    }
}

impl Shared {
    /// Appends what is due. Whose turn it is takes along what others submit meanwhile, so that nobody waits for it.
    pub fn append_at_once(&self) {
        loop {
            let turn = match self.turn.try_lock() {
                Ok(turn) => turn,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            let due = self.queue().take_due(GROUP_BYTES);
            self.append_in_memory(due, turn).send();
            // What came after that look, while it was still this turn, is left to nobody else.
            if self.queue().due_bytes().is_none() {
                return;
            }
        }
    }

    /// Appends what was submitted; tickets without a commit are refused from now on.
    pub fn close_at_once(&self) {
        loop {
            let turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut queue = self.queue();
            let due = queue.take_due(GROUP_BYTES);
            if due.is_empty() {
                let refused = queue.close();
                drop((queue, turn));
                return drop(refused);
            }
            drop(queue);
            self.append_in_memory(due, turn).send();
        }
    }

    fn append_in_memory(&self, commits: Vec<Pending>, turn: MutexGuard<'_, ()>) -> Answers {
        let (commits, refused) = self.refuse_known_keys(commits);
        if commits.is_empty() {
            return Answers { refused, ..Answers::default() };
        }
        let group = Group::gather(commits, None);
        let mut state = self.state();
        let mut firsts = Vec::with_capacity(group.drafts.len());
        for draft in group.drafts {
            firsts.push(state.next_seq);
            let stream_bytes = state.heads.get(draft.stream).map_or(0, |head| head.bytes);
            let record = state.number(draft.stream, draft.received_at, draft.lines);
            state.tier.push(record, stream_bytes, draft.permits);
        }
        state.synced_seq = state.next_seq;
        state.synced = state.heads.clone();
        for position in &group.notes.positions {
            state.positions.state(position, 0);
        }
        let seq = state.next_seq;
        drop(state);
        enter_keys(self, &group.notes);
        self.state().after_settling(true);
        drop(turn);
        self.changed.notify_waiters();
        let appended = group.waiting.into_iter().map(|waiting| (waiting.seqs(&firsts, seq), waiting));
        Answers { appended: appended.map(|(seqs, waiting)| (waiting, seqs)).collect(), refused }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::tests::{commit, lines};
    use super::super::{AppendError, Journal, Mode, Options, Start, fs};

    fn in_memory() -> Journal {
        let options = Options { mode: Mode::Memory, ..Options::new("/nowhere") };
        Journal::open(options, Arc::new(fs::Real::default())).unwrap().0
    }

    #[test]
    fn many_threads_append_and_each_is_answered() {
        let journal = in_memory();
        let stream = journal.stream("a").unwrap();
        let mut cursor = journal.cursor("sink", &[stream], Start::Oldest, None).unwrap();
        let answered = Arc::new(AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..500 {
                        let answered = answered.clone();
                        // A place that is given up holds nobody up, and one that is used later only those behind it.
                        let (early, late) = (journal.ticket(), (n % 3 == 0).then(|| journal.ticket()));
                        journal.ticket().commit_then(commit(stream, lines(n * 2, 2)), move |answer| {
                            assert_eq!(answer.unwrap().count(), 2);
                            answered.fetch_add(1, Ordering::Relaxed);
                        });
                        drop((early, late));
                    }
                });
            }
        });
        assert_eq!(answered.load(Ordering::Relaxed), 2000);
        let mut events = 0;
        while let Some(records) = cursor.try_next(1 << 20).ok().filter(|records| !records.is_empty()) {
            events += records.iter().map(|record| record.lines.len()).sum::<usize>();
        }
        assert_eq!(events, 4000);
    }

    #[test]
    fn who_is_answered_may_submit_again_and_hold_the_last_handle() {
        let journal = in_memory();
        let stream = journal.stream("a").unwrap();
        let (send, receive) = std::sync::mpsc::channel();
        let ticket = journal.ticket();
        let again = journal.clone();
        ticket.commit_then(commit(stream, lines(0, 1)), move |first| {
            let nested = send.clone();
            again.ticket().commit_then(commit(stream, lines(1, 1)), move |second| nested.send(second).unwrap());
            send.send(first).unwrap();
        });
        let answers: Vec<u64> = receive.iter().map(|answer| answer.unwrap().start).collect();
        assert_eq!(answers[0], answers[1] + 1);
        let (send, receive) = std::sync::mpsc::channel();
        let (early, ticket) = (journal.ticket(), journal.ticket());
        let last = journal.clone();
        ticket.commit_then(commit(stream, lines(2, 1)), move |answer| {
            drop(last);
            send.send(answer).unwrap();
        });
        drop(journal);
        drop(early);
        assert!(receive.recv().unwrap().is_ok());
    }

    #[test]
    fn a_closed_journal_refuses_what_comes_later() {
        let journal = in_memory();
        let stream = journal.stream("a").unwrap();
        let (before, after) = (journal.ticket(), journal.ticket());
        drop(before);
        journal.close();
        let (send, receive) = std::sync::mpsc::channel();
        after.commit_then(commit(stream, lines(0, 1)), move |answer| send.send(answer).unwrap());
        assert_eq!(receive.recv().unwrap(), Err(AppendError::Closed));
    }
}
