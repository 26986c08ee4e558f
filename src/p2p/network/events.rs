//! The swarm's events: turned into inputs of the core, or answered here.

use super::{driver::Driver, jobs, pending::Protocol};
use crate::p2p::{
    behaviour::BehaviourEvent,
    core::{Input, RequestFailed},
    message::{BlobRequest, BlobResponse, SyncRequest, SyncResponse},
    wire::WireBytes,
};
use libp2p::{
    core::transport::ListenerId,
    gossipsub, ping,
    request_response::{self, Message, OutboundFailure, ResponseChannel},
    swarm::SwarmEvent,
};
use libp2p_identity::PeerId;
use std::io;

/// Blob requests answered at the same time, over all peers. Further ones fail, and the peer asks again.
const MAX_SERVING: usize = 32;

impl Driver {
    pub(super) fn happened(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.protocol(event),
            SwarmEvent::NewListenAddr { listener_id, address } => {
                tracing::info!(%address, "listening");
                // We don't know how others see this node, so we tell them where it listens.
                self.swarm.add_external_address(address);
                self.listener_spoke(listener_id);
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => self.swarm.remove_external_address(&address),
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                let reason = reason.err().map_or_else(|| "it was asked to".to_owned(), |error| error.to_string());
                tracing::warn!(reason, "a listener has closed");
                self.listener_spoke(listener_id);
            }
            SwarmEvent::ListenerError { error, .. } => self.shortage.not_accepted(&error),
            SwarmEvent::IncomingConnectionError { error, .. } if !self.is_cut => {
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
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.received(&propagation_source, message.data.len() as u64);
                let token = self.pending.gossip(propagation_source, message_id);
                self.tell(Input::Gossip { token, from: propagation_source, data: message.data.into() });
            }
            BehaviourEvent::Sync(event) => self.sync(event),
            BehaviourEvent::Blobs(event) => self.blobs(event),
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
            BehaviourEvent::Gossip(_) => {}
            BehaviourEvent::Limits(never) | BehaviourEvent::Blocked(never) | BehaviourEvent::Admission(never) => {
                match never {}
            }
        }
    }

    fn sync(&mut self, event: request_response::Event<SyncRequest, SyncResponse>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { request, channel, .. } => {
                    self.received(&peer, request.wire_bytes());
                    let token = self.pending.sync(peer, channel);
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
            request_response::Event::InboundFailure { .. } | request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn blobs(&mut self, event: request_response::Event<BlobRequest, BlobResponse>) {
        match event {
            request_response::Event::Message { peer, message, .. } => match message {
                Message::Request { request, channel, .. } => {
                    self.received(&peer, request.wire_bytes());
                    self.serve(peer, request, channel);
                }
                Message::Response { request_id, response } => {
                    self.received(&peer, response.wire_bytes());
                    let Some(id) = self.pending.answered(Protocol::Blobs, request_id) else { return };
                    let response = match response {
                        BlobResponse::Blobs(blobs) => Ok(blobs),
                        BlobResponse::Noted => Ok(Vec::new()),
                        BlobResponse::NotMember => Err(RequestFailed::Unsupported),
                    };
                    self.tell(Input::BlobResponse { id, response });
                }
            },
            request_response::Event::OutboundFailure { request_id, error, .. } => {
                if let Some(id) = self.pending.answered(Protocol::Blobs, request_id) {
                    self.tell(Input::BlobResponse { id, response: Err(failed(&error)) });
                }
            }
            request_response::Event::InboundFailure { .. } | request_response::Event::ResponseSent { .. } => {}
        }
    }

    fn serve(&mut self, peer: PeerId, request: BlobRequest, channel: ResponseChannel<BlobResponse>) {
        let (BlobRequest::Get { federation, .. }
        | BlobRequest::Holds { federation, .. }
        | BlobRequest::Keep { federation, .. }) = &request;
        let now = |response| {
            move |driver: &mut Self, channel| drop(driver.swarm.behaviour_mut().blobs.send_response(channel, response))
        };
        if *federation != self.federation || !self.core.admits(&peer) {
            return now(BlobResponse::NotMember)(self, channel);
        }
        self.tell(Input::Asked(peer));
        match request {
            BlobRequest::Holds { roots, .. } => {
                self.tell(Input::Holds { peer, roots });
                now(BlobResponse::Noted)(self, channel);
            }
            BlobRequest::Keep { entry, .. } => {
                self.tell(Input::Keep { peer, entry });
                now(BlobResponse::Noted)(self, channel);
            }
            // A channel that is dropped is a failed request there.
            BlobRequest::Get { .. } if self.pending.waiting_for_blobs() >= MAX_SERVING => {}
            BlobRequest::Get { hashes, .. } => {
                let (token, cache) = (self.pending.blobs(peer, channel), self.cache.clone());
                self.jobs.spawn_blocking(move || jobs::read(&cache, token, &hashes));
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
