//! Every decoder that reads bytes of another process, for `executor/fuzz`: each
//! takes any bytes, and must neither panic nor allocate without a bound.

pub use crate::limits::fuzzing::group_files;
pub use crate::pool::fuzzing::{control_line, task_line};
pub use crate::processes::fuzzing::process_files;
pub use crate::service::fuzzing::{conversation, data_line};
