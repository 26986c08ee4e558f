//! What a node says of itself to whoever checks it: what its clock shows, and how it stands to a federation.

use super::protocols::ABOUT_PROTOCOL;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{
    StreamProtocol,
    kad::RecordKey,
    request_response::{self, Codec, ProtocolSupport},
};
use serde::{Deserialize, Serialize};
use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Bytes of a federation's key in the table, by which it is asked about.
const KEY_BYTES: usize = 32;
/// Milliseconds since 1970 (8 bytes, little-endian), and the standing.
const ANSWER_BYTES: usize = 9;
/// Questions and answers that may be under way on a connection.
const AT_ONCE: usize = 4;
/// How long an answer may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

/// How a node stands to a federation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It has heard of no member.
    Unknown,
    /// Members have announced themselves to it.
    Known,
    /// It is a member.
    Member,
}

/// The federation that is asked about, by its key in the table; zeros for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question([u8; KEY_BYTES]);

/// What is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// Milliseconds since 1970, by its clock.
    pub(super) clock: u64,
    pub(super) standing: Standing,
}

impl Question {
    pub(super) fn new(key: Option<&RecordKey>) -> Self {
        Self(key.and_then(|key| key.as_ref().try_into().ok()).unwrap_or_default())
    }

    pub(super) fn key(&self) -> RecordKey {
        RecordKey::new(&self.0)
    }
}

impl Answer {
    pub(super) fn now(standing: Standing) -> Self {
        Self { clock: milliseconds(SystemTime::now()), standing }
    }
}

/// Since 1970; 0 before it.
pub(super) fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The protocol of those who answer, or of who asks.
pub(super) type About = request_response::Behaviour<AboutCodec>;

pub(super) fn about(support: ProtocolSupport) -> About {
    let config =
        request_response::Config::default().with_request_timeout(ANSWERED_WITHIN).with_max_concurrent_streams(AT_ONCE);
    request_response::Behaviour::with_codec(AboutCodec, [(ABOUT_PROTOCOL, support)], config)
}

/// Reads and writes questions and answers, which have one length.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct AboutCodec;

impl Codec for AboutCodec {
    type Protocol = StreamProtocol;
    type Request = Question;
    type Response = Answer;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Question>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut key = [0; KEY_BYTES];
        io.read_exact(&mut key).await?;
        Ok(Question(key))
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Answer>
    where
        T: AsyncRead + Unpin + Send,
    {
        let mut answer = [0; ANSWER_BYTES];
        io.read_exact(&mut answer).await?;
        let [clock @ .., standing] = answer;
        let standing = match standing {
            0 => Standing::Unknown,
            1 => Standing::Known,
            2 => Standing::Member,
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a standing that there isn't")),
        };
        Ok(Answer { clock: u64::from_le_bytes(clock), standing })
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, Question(key): Question) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&key).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, answer: Answer) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        let standing = match answer.standing {
            Standing::Unknown => 0,
            Standing::Known => 1,
            Standing::Member => 2,
        };
        let mut bytes = [standing; ANSWER_BYTES];
        bytes[..8].copy_from_slice(&answer.clock.to_le_bytes());
        io.write_all(&bytes).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures::{executor::block_on, io::Cursor};

    #[test]
    fn what_is_written_is_read() {
        block_on(async {
            let question = Question::new(Some(&RecordKey::new(&[7; 32])));
            let mut sent = Vec::new();
            AboutCodec.write_request(&ABOUT_PROTOCOL, &mut sent, question).await.unwrap();
            assert_eq!(sent, [7; 32]);
            assert_eq!(AboutCodec.read_request(&ABOUT_PROTOCOL, &mut Cursor::new(sent)).await.unwrap(), question);
            for (number, standing) in [Standing::Unknown, Standing::Known, Standing::Member].into_iter().enumerate() {
                let answer = Answer { clock: 0x0102, standing };
                let mut sent = Vec::new();
                AboutCodec.write_response(&ABOUT_PROTOCOL, &mut sent, answer).await.unwrap();
                assert_eq!(sent, [2, 1, 0, 0, 0, 0, 0, 0, number as u8]);
                assert_eq!(AboutCodec.read_response(&ABOUT_PROTOCOL, &mut Cursor::new(sent)).await.unwrap(), answer);
            }
            for sent in [&[0; 8][..], &[0, 0, 0, 0, 0, 0, 0, 0, 3]] {
                assert!(AboutCodec.read_response(&ABOUT_PROTOCOL, &mut Cursor::new(sent)).await.is_err());
            }
        });
        assert_eq!(Question::new(None), Question([0; 32]));
        assert_eq!(Question::new(Some(&RecordKey::new(&[7; 5]))), Question([0; 32]), "not a federation's key");
    }
}
