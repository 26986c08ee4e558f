//! A proxy's questions that are waiting for answers.

use super::messages::{Answer, Fault, Request, ToHost, frame};
use peerfold::folder::FolderError;
use std::{
    collections::HashMap,
    sync::{Mutex, mpsc},
};
use tokio::sync::oneshot;

type Reply = Box<dyn FnOnce(Result<Answer, Fault>) + Send>;

/// What a proxy's handles share.
pub struct Link {
    out: mpsc::Sender<Vec<u8>>,
    waiting: Mutex<Waiting>,
}

struct Waiting {
    next: u64,
    /// `None` once the process has gone.
    replies: Option<HashMap<u64, Reply>>,
}

impl Link {
    /// One whose frames go to `out`.
    pub fn new(out: mpsc::Sender<Vec<u8>>) -> Self {
        Self { out, waiting: Mutex::new(Waiting { next: 0, replies: Some(HashMap::new()) }) }
    }

    /// The process has gone: nobody waits any longer.
    pub fn ended(&self) {
        // Dropped, they tell their callers that no answer comes.
        self.waiting.lock().unwrap().replies.take();
    }

    /// The number of a request that was sent.
    fn send(&self, request: Request, reply: Reply) -> u64 {
        let mut waiting = self.waiting.lock().unwrap();
        let id = waiting.next;
        waiting.next += 1;
        if let Some(replies) = &mut waiting.replies {
            replies.insert(id, reply);
            let _ = self.out.send(frame(&ToHost { id, request }));
        }
        id
    }

    /// Sends what has no answer.
    pub fn tell(&self, request: Request) {
        let _ = self.out.send(frame(&ToHost { id: u64::MAX, request }));
    }

    pub fn answered(&self, id: u64, answer: Result<Answer, Fault>) {
        let reply = self.waiting.lock().unwrap().replies.as_mut().and_then(|replies| replies.remove(&id));
        if let Some(reply) = reply {
            reply(answer);
        }
    }

    /// The answer. Dropping the future gives the request up.
    pub async fn call(&self, request: Request) -> Result<Answer, FolderError> {
        let (sender, receiver) = oneshot::channel();
        let id = self.send(request, Box::new(|answer| drop(sender.send(answer))));
        let mut call = Call { link: self, id: Some(id) };
        let answer = receiver.await.map_err(|_| gone())?;
        call.id = None;
        Ok(answer?)
    }

    /// Blocks until the answer is there. Needs no runtime to come.
    pub fn call_blocking(&self, request: Request) -> Result<Answer, FolderError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.send(request, Box::new(move |answer| drop(sender.send(answer))));
        Ok(receiver.recv().map_err(|_| gone())??)
    }
}

fn gone() -> FolderError {
    FolderError::Worker("the process has ended".to_owned())
}

/// A request that nobody waits for any more is cancelled in the host too.
struct Call<'a> {
    link: &'a Link,
    id: Option<u64>,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            if let Some(replies) = &mut self.link.waiting.lock().unwrap().replies {
                replies.remove(&id);
            }
            self.link.tell(Request::Cancel { id });
        }
    }
}
