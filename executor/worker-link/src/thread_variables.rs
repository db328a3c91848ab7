//! Variables that both sides must agree on.

/// Variables that size the thread pools of numerical libraries. Libraries read
/// them when they are loaded: the agent starts a zygote with each at 1, so that
/// imports start no threads, and a worker is given numbers of its own.
pub const THREAD_VARIABLES: [&str; 7] = [
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
];
