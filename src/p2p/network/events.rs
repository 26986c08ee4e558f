//! The swarm's events: turned into inputs of the core, or answered here.

use super::{driver::Driver, pending::Protocol};
use crate::p2p::{
    about::{Answer, Question, Standing},
    behaviour::BehaviourEvent,
    core::{Input, RequestFailed},
    message::{BlobRequest, BlobResponse, SyncRequest, SyncResponse},
    metered_gossip::GossipEvent,
    wire::WireBytes,
};
use libp2p::{
    core::transport::ListenerId,
    gossipsub, ping,
    request_response::{self, Message, OutboundFailure},
    swarm::{ListenError, SwarmEvent},
};
use std::{io, time::Duration};

impl Driver {
    pub(super) fn happened(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.protocol(event),
            SwarmEvent::NewListenAddr { listener_id, address } => {
                self.listens_at(address);
                self.listener_spoke(listener_id);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => self.listens_no_more(&address),
            SwarmEvent::ExternalAddrConfirmed { address } => self.confirmed(&address),
            SwarmEvent::ExternalAddrExpired { address } => self.expired(&address),
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                let reason = reason.err().map_or_else(|| "it was asked to".to_owned(), |error| error.to_string());
                if self.reservations.ended(listener_id, self.began.elapsed()) {
                    tracing::debug!(reason, "a relay is one no more");
                } else {
                    tracing::warn!(reason, "a listener has closed");
                }
                self.listener_spoke(listener_id);
            }
            SwarmEvent::ListenerError { error, .. } => self.shortage.not_accepted(&error),
            SwarmEvent::IncomingConnectionError { error, .. } if !self.is_cut => {
                self.refusals.connections += u64::from(matches!(error, ListenError::Denied { .. }));
                self.shortage.refused(&error, self.limits.connections, self.limits.pending);
                self.strangers.refused(&error);
            }
            event => self.connection(event),
        }
    }

    fn listener_spoke(&mut self, listener: ListenerId) {
        self.silent.retain(|silent| *silent != listener);
        if self.silent.is_empty() {
            self.tell_where();
        }
    }

    fn protocol(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Gossip(GossipEvent::Over { peer, dropped }) => self.floods(peer, dropped),
            BehaviourEvent::Gossip(GossipEvent::Gossip(gossipsub::Event::Message {
                propagation_source,
                message_id,
                message,
            })) => {
                self.received(&propagation_source, message.data.len() as u64);
                let token = self.pending.gossip(propagation_source, message_id);
                self.tell(Input::Gossip { token, from: propagation_source, data: message.data.into() });
            }
            BehaviourEvent::Sync(event) => self.sync(event),
            BehaviourEvent::Blobs(event) => self.blobs(event),
            BehaviourEvent::About(event) => self.asked_about(event),
            BehaviourEvent::Ping(ping::Event { peer, connection, result }) => match result {
                Ok(_) => self.received(&peer, 0),
                Err(ping::Failure::Unsupported) => {}
                Err(error) => {
                    tracing::debug!(%peer, %error, "a peer doesn't answer");
                    self.swarm.close_connection(connection);
                }
            },
            BehaviourEvent::Kad(event) => self.table(event),
            BehaviourEvent::Identify(event) => self.identified(event),
            BehaviourEvent::Mdns(event) => self.found_beside(event),
            BehaviourEvent::Relays(event) => self.relays(event),
            BehaviourEvent::Punching(event) => self.punching(event),
            BehaviourEvent::Candidates(event) => tracing::debug!(?event, "an address was tried out"),
            BehaviourEvent::Upnp(event) => self.router_said(&event),
            BehaviourEvent::Gossip(GossipEvent::Gossip(_)) | BehaviourEvent::Doors(_) | BehaviourEvent::DialBack(_) => {
            }
            BehaviourEvent::Limits(never) | BehaviourEvent::Blocked(never) | BehaviourEvent::Admission(never) => {
                match never {}
            }
        }
    }

    fn sync(&mut self, event: request_response::Event<SyncRequest, SyncResponse>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { request_id, request, channel } => {
                    self.received(&peer, request.wire_bytes());
                    if !self.may_ask(peer) {
                        return;
                    }
                    let token = self.pending.sync(peer, request_id, channel);
                    self.tell(Input::SyncRequest { token, peer, request });
                }
                Message::Response { request_id, response } => {
                    self.received(&peer, response.wire_bytes());
                    if let Some(id) = self.pending.answered(Protocol::Sync, request_id) {
                        self.tell(Input::SyncResponse { id, response: Ok(response) });
                    }
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                if let Some(id) = self.pending.answered(Protocol::Sync, request_id) {
                    self.tell(Input::SyncResponse { id, response: Err(failed(&error)) });
                }
            }
            request_response::Event::ResponseSent { request_id, .. } => {
                self.answer_taken((Protocol::Sync, request_id));
            }
            request_response::Event::InboundFailure { connection_id, request_id, error, .. } => {
                self.answer_failed((Protocol::Sync, request_id), connection_id, &error);
            }
        }
    }

    fn asked_about(&mut self, event: request_response::Event<Question, Answer>) {
        let request_response::Event::Message { peer, message: Message::Request { request, channel, .. }, .. } = event
        else {
            return;
        };
        if self.may_ask(peer) {
            let is_member = request.key() == *self.table_queries.key();
            let standing = if is_member { Standing::Member } else { Standing::Unknown };
            // Who has gone meanwhile needs no answer.
            let _ = self.swarm.behaviour_mut().about.send_response(channel, Answer::now(standing));
        }
    }

    fn blobs(&mut self, event: request_response::Event<BlobRequest, BlobResponse>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { request_id, request, channel } => {
                    self.received(&peer, request.wire_bytes());
                    if self.may_ask(peer) {
                        self.serve(peer, request_id, request, channel);
                    }
                }
                Message::Response { request_id, response } => {
                    self.received(&peer, response.wire_bytes());
                    let Some(id) = self.pending.answered(Protocol::Blobs, request_id) else { return };
                    let response = match response {
                        BlobResponse::Blobs(blobs) => Ok(blobs),
                        BlobResponse::Noted => Ok(Vec::new()),
                        BlobResponse::NotMember => Err(RequestFailed::Unsupported),
                        BlobResponse::Later(seconds) => Err(RequestFailed::Later(Duration::from_secs(seconds.into()))),
                    };
                    self.tell(Input::BlobResponse { id, response });
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                if let Some(id) = self.pending.answered(Protocol::Blobs, request_id) {
                    self.tell(Input::BlobResponse { id, response: Err(failed(&error)) });
                }
            }
            request_response::Event::ResponseSent { request_id, .. } => {
                self.answer_taken((Protocol::Blobs, request_id));
            }
            request_response::Event::InboundFailure { connection_id, request_id, error, .. } => {
                self.answer_failed((Protocol::Blobs, request_id), connection_id, &error);
            }
        }
    }
}

fn failed(error: &OutboundFailure) -> RequestFailed {
    match error {
        OutboundFailure::UnsupportedProtocols => RequestFailed::Unsupported,
        OutboundFailure::Io(error) if error.kind() == io::ErrorKind::InvalidData => RequestFailed::Malformed,
        _ => RequestFailed::Failed,
    }
}
