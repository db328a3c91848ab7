//! The gRPC contract between a driver and an agent.
