//! The interpreter host.
