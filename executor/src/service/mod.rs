//! The gRPC door: translate, validate, forward. The only room that knows the
//! wire's types.

mod attach;
mod complaints;
mod connection;
mod content;
mod data_line;
mod decode;
mod door;
mod ears;
mod encode;
mod entry;
mod environments;
mod executor_service;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod gate;
mod leash;
mod line;
mod listener;
mod peer_groups;
mod peers;
mod resumable;
mod said_all;
mod server;
mod speak;

pub(crate) use content::Library;
pub(crate) use entry::Entry;
pub(crate) use environments::Environments;
pub(crate) use executor_service::{AgentIdentity, ExecutorService};
pub(crate) use listener::{BoundListener, ListenError, bind};
pub(crate) use peers::{ClusterRoads, GrpcPeers};
pub(crate) use resumable::Resumable;
pub(crate) use server::serve_grpc;
