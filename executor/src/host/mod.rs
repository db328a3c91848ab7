//! The process that becomes a zygote: loads libpython and the interpreter host.
