//! A full barrier between the stores before it and the loads after it, in two threads at once: nearly free in the
//! one ([`light`]), paid for by the other ([`heavy`]).
//!
//! `membarrier(2)` lets every running thread of the process pass a full barrier (a thread that does not run has
//! passed one in the scheduler). So where one thread is between its store and its load, `light` only has to keep the
//! compiler from exchanging them.

#[cfg(all(target_os = "linux", not(miri), not(all(loom, test))))]
mod system {
    use std::sync::OnceLock;
    use std::sync::atomic::{Ordering, compiler_fence, fence};

    fn membarrier(command: libc::c_int) -> bool {
        let no_flags: libc::c_uint = 0;
        // SAFETY: the call takes no pointers, and changes nothing that the program can see but the order of memory.
        unsafe { libc::syscall(libc::SYS_membarrier, command, no_flags) == 0 }
    }

    /// Whether the system has the call. It asks once, since a process has to register for it.
    pub(crate) fn is_available() -> bool {
        static REGISTERED: OnceLock<bool> = OnceLock::new();
        *REGISTERED.get_or_init(|| {
            membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
                && membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
        })
    }

    #[inline]
    pub(crate) fn light() {
        compiler_fence(Ordering::SeqCst);
    }

    pub(crate) fn heavy() {
        fence(Ordering::SeqCst);
        // It can only fail for want of kernel memory, or in a process that was forked off.
        while !membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED) {
            membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
            std::thread::yield_now();
        }
    }
}

/// No system has this call: nobody ever owns a lock.
#[cfg(any(miri, all(not(target_os = "linux"), not(all(loom, test)))))]
mod system {
    pub(crate) fn is_available() -> bool {
        false
    }

    #[inline]
    pub(crate) fn light() {}

    pub(crate) fn heavy() {}
}

/// What the call amounts to, in terms that loom knows.
#[cfg(all(loom, test))]
mod system {
    use loom::sync::atomic::{Ordering, fence};

    pub(crate) fn is_available() -> bool {
        true
    }

    pub(crate) fn light() {
        fence(Ordering::SeqCst);
    }

    pub(crate) fn heavy() {
        fence(Ordering::SeqCst);
    }
}

pub(super) use system::{heavy, is_available, light};
