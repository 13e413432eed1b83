//! An async mutex: futures-util's, which needs no runtime and whose guard is `Send`.

use futures_util::lock;
use openraft_rt::OptionalSend;

/// The mutex of the simulated runtime.
#[derive(Debug)]
pub struct SimMutex<T>(lock::Mutex<T>);

impl<T: OptionalSend + 'static> openraft_rt::Mutex<T> for SimMutex<T> {
    type Guard<'a> = lock::MutexGuard<'a, T>;

    fn new(value: T) -> Self {
        SimMutex(lock::Mutex::new(value))
    }

    async fn lock(&self) -> Self::Guard<'_> {
        self.0.lock().await
    }
}
