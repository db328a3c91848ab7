//! The process between zygote and worker: a child that shares the zygote's
//! memory while the zygote stands still, as `vfork` makes them.
//!
//! POSIX lets such a child do little. What makes a fork in it right: the C
//! library's `fork` works on its caller's memory, here the zygote's, and
//! leaves it as if the zygote itself had forked; handlers of `pthread_atfork`
//! run on both sides; and the kernel writes the worker's thread id into the
//! worker's copy. One thing is lost on the way, see [`register_rseq`].

use std::io::{Error, ErrorKind};

use libc::pid_t;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Where one is after the fork.
pub(crate) enum Forked {
    /// In the zygote.
    Zygote {
        /// The worker.
        pid: u32,
    },
    /// In the worker.
    Worker {
        /// The parent until it has ended; then the agent is.
        intermediate: u32,
    },
}

/// What the intermediate tells: it and the zygote see the same memory.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C)]
struct Told {
    /// The intermediate's own process id.
    intermediate: pid_t,
    /// The worker's, or the negated errno of the fork that failed.
    worker: pid_t,
}

/// Has an intermediate fork a worker, and waits for its end. Returns twice.
///
/// # Safety
/// The process has one thread, and may fork.
#[expect(unsafe_code, reason = "fork, and memory that two processes share")]
pub(crate) unsafe fn fork_through() -> Result<Forked, Error> {
    const BYTES: usize = size_of::<Told>();
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping of zeroed memory, which is a valid `Told`. Only the
    // intermediate writes to it, and it has ended when the zygote reads.
    unsafe {
        let page = mmap_anonymous(std::ptr::null_mut(), BYTES, access, MapFlags::SHARED)?;
        let told = page.cast::<Told>();
        let made = make(told);
        let ended = match made {
            -1 => Err(Error::last_os_error()),
            0 => Ok(()),
            made => reap(made),
        };
        let told = told.read();
        // A page too many hurts nobody; a worker that takes itself for the zygote would.
        munmap(page, BYTES).ok();
        ended?;
        if made == 0 {
            #[cfg(target_arch = "x86_64")]
            register_rseq();
            return Ok(Forked::Worker { intermediate: told.intermediate.unsigned_abs() });
        }
        match told.worker {
            0 => Err(Error::other("the intermediate ended before it forked")),
            pid if pid > 0 => Ok(Forked::Zygote { pid: pid.unsigned_abs() }),
            errno => Err(Error::from_raw_os_error(errno.saturating_neg())),
        }
    }
}

/// Makes the intermediate, on this very stack: gives its process id, or -1
/// with errno set, and 0 in the worker.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "a child that shares memory and stack")]
unsafe fn make(told: *mut Told) -> pid_t {
    let flags = i64::from(libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD);
    let answer: i64;
    // SAFETY: to the compiler this is a call that returns once. In the zygote
    // it is: until the child is gone only the child runs, it uses the stack
    // below this frame, which is free during a call, and never returns from
    // `fork_and_end`. In the worker, which has a copy of the stack as it was in
    // `fork`, `fork_and_end` returns, and so does this.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov rdi, r13",
            "call r12",
            "xor eax, eax",
            "2:",
            inlateout("rax") libc::SYS_clone => answer,
            inlateout("rdi") flags => _,
            // No stack of its own, and nothing else that clone can be given.
            inlateout("rsi") 0_i64 => _,
            inlateout("rdx") 0_i64 => _,
            inlateout("r10") 0_i64 => _,
            inlateout("r8") 0_i64 => _,
            in("r12") fork_and_end as extern "C" fn(*mut Told),
            in("r13") told,
            clobber_abi("C"),
        );
    }
    pid_t::try_from(answer).ok().filter(|answer| *answer >= 0).unwrap_or_else(|| {
        let errno = i32::try_from(-answer).unwrap_or(libc::EAGAIN);
        // SAFETY: this thread's own errno.
        unsafe { *libc::__errno_location() = errno };
        -1
    })
}

/// The same with a copy of the memory, where nobody wrote the assembly.
#[cfg(not(target_arch = "x86_64"))]
#[expect(unsafe_code, reason = "fork")]
unsafe fn make(told: *mut Told) -> pid_t {
    // SAFETY: as promised by the caller.
    let made = unsafe { libc::fork() };
    if made == 0 {
        fork_and_end(told);
    }
    made
}

/// Runs in the intermediate; returns in the worker only.
#[expect(unsafe_code, reason = "fork")]
extern "C" fn fork_and_end(told: *mut Told) {
    // SAFETY: `told` is mapped in both processes. The only thread of a process
    // may fork, and ends without running any handler of the zygote's.
    unsafe {
        (*told).intermediate = libc::getpid();
        let forked = libc::fork();
        if forked == 0 {
            return;
        }
        let errno = || Error::last_os_error().raw_os_error().unwrap_or(libc::EAGAIN);
        (*told).worker = if forked > 0 { forked } else { -errno() };
        libc::_exit(0)
    }
}

/// Registers the C library's restartable sequences with the kernel again: a
/// process that shares memory has none, and its children inherit that. Without
/// them the worker would never learn that it moved to another CPU.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "a system call and two symbols of the C library")]
fn register_rseq() {
    /// As the C library registers it.
    const LENGTH: usize = 32;
    const SIGNATURE: u32 = 0x5305_3053;
    // SAFETY: both symbols are constants of these types where they exist; the
    // area that they describe is this thread's, lives as long as the thread,
    // and was registered in the zygote.
    unsafe {
        let offset = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr());
        let size = libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_size".as_ptr());
        if offset.is_null() || size.is_null() || *size.cast::<u32>() == 0 {
            return;
        }
        let thread: usize;
        std::arch::asm!("mov {}, fs:0", out(reg) thread, options(pure, readonly, nostack));
        let area = thread.wrapping_add_signed(*offset.cast::<isize>());
        // Refused where it is of no use: by kernels without it.
        libc::syscall(libc::SYS_rseq, area, LENGTH, 0, SIGNATURE);
    }
}

#[expect(unsafe_code, reason = "waitpid by number")]
fn reap(child: pid_t) -> Result<(), Error> {
    loop {
        // SAFETY: a null status is allowed.
        if unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) } == child {
            return Ok(());
        }
        let error = Error::last_os_error();
        if error.kind() != ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
