//! Every way a batch can end badly. The list is closed; the wire, the
//! documentation and the Python exceptions have the same members.

mod evidence;
mod kind;

pub use evidence::{Breach, Failure, RemoteException};
pub use kind::{Fault, Kind};
