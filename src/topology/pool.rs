//! The data threads: a few plain threads that run jobs to completion, in the order of submission.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::telemetry::panics;

type Task = Box<dyn FnOnce() + Send>;

/// A fixed number of threads over one queue. What waits in the queue is bounded by the room its jobs hold.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Task>,
    /// Threads that wait and were not told of a task. To tell nobody is a system call, too.
    idle: usize,
    closed: bool,
}

impl Pool {
    pub fn start(threads: usize) -> std::io::Result<Pool> {
        let shared = Arc::new(Shared { queue: Mutex::default(), wake: Condvar::new() });
        let pool = Pool { shared: shared.clone(), threads: Mutex::default() };
        for n in 0..threads.max(1) {
            let shared = shared.clone();
            let thread = std::thread::Builder::new().name(format!("weir-data-{n}")).spawn(move || work(&shared))?;
            lock(&pool.threads).push(thread);
        }
        Ok(pool)
    }

    /// Adds what `make` returns to the queue. `make` runs under the queue's lock: tickets it takes have the order
    /// in which the tasks will start, so that a task never waits for one that has not started.
    /// After `close` the task is dropped unrun.
    pub fn push(&self, make: impl FnOnce() -> Task) {
        let mut queue = lock(&self.shared.queue);
        if queue.closed {
            return;
        }
        let task = make();
        queue.tasks.push_back(task);
        let is_awaited = queue.idle > 0;
        queue.idle -= usize::from(is_awaited);
        drop(queue);
        if is_awaited {
            self.shared.wake.notify_one();
        }
    }

    /// Takes nothing more and returns when all tasks have run.
    pub fn close(&self) {
        lock(&self.shared.queue).closed = true;
        self.shared.wake.notify_all();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            thread.join().expect("a data thread catches the panics of its tasks");
        }
    }
}

fn work(shared: &Shared) {
    loop {
        let mut queue = lock(&shared.queue);
        let task = loop {
            if let Some(task) = queue.tasks.pop_front() {
                break task;
            }
            if queue.closed {
                return;
            }
            queue.idle += 1;
            queue = shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        };
        drop(queue);
        // What the task holds (ticket, receipt) is released by the unwinding itself.
        if let Err(panic) = panics::contain(task) {
            tracing::error!(panic, "a job panicked; it is answered as failed");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_panicking_task_leaves_its_thread_working() {
        let pool = Pool::start(1).unwrap();
        let (send, receive) = mpsc::channel();
        pool.push(|| Box::new(|| panic!("on purpose")));
        pool.push(|| Box::new(move || send.send(7).unwrap()));
        assert_eq!(receive.recv(), Ok(7));
        pool.close();
    }

    #[test]
    fn closing_runs_what_waits_and_drops_what_comes_later() {
        let pool = Pool::start(2).unwrap();
        let (send, receive) = mpsc::channel();
        for n in 0..100 {
            let send = send.clone();
            pool.push(|| Box::new(move || send.send(n).unwrap()));
        }
        pool.close();
        pool.push(|| Box::new(move || send.send(100).unwrap()));
        let mut seen: Vec<i32> = receive.iter().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }
}
