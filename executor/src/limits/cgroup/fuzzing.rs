//! Opens what reads the kernel's tables of groups.

use super::hierarchies::Hierarchies;

/// Takes in both tables.
pub(in crate::limits) fn hierarchies(own: &str, mounts: &str) {
    Hierarchies::parse(own, mounts);
}
