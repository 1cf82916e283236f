//! A full barrier between the earlier stores and the later loads of two threads at once. It is nearly free for one
//! thread ([`light`]); the other thread pays for it ([`heavy`]).
//!
//! `membarrier(2)` makes every running thread of the process execute a full barrier. A thread that is not running has
//! executed one in the scheduler. Between its store and its load, the first thread therefore only has to keep the
//! compiler from reordering them, and `light` does that.

#[cfg(all(target_os = "linux", not(miri), not(all(loom, test))))]
mod system {
    use std::sync::OnceLock;
    use std::sync::atomic::{Ordering, compiler_fence, fence};

    fn membarrier(command: libc::c_int) -> bool {
        let no_flags: libc::c_uint = 0;
        // SAFETY: the call takes no pointers. Its only effect that the program can observe is on memory order.
        unsafe { libc::syscall(libc::SYS_membarrier, command, no_flags) == 0 }
    }

    /// Reports whether the system supports the call. Asks once, because a process has to register for it.
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
        // The call fails only if the kernel is out of memory, or in a process that was forked off.
        while !membarrier(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED) {
            membarrier(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
            std::thread::yield_now();
        }
    }
}

/// Without the system call, no thread ever owns a lock.
#[cfg(any(miri, all(not(target_os = "linux"), not(all(loom, test)))))]
mod system {
    pub(crate) fn is_available() -> bool {
        false
    }

    #[inline]
    pub(crate) fn light() {}

    pub(crate) fn heavy() {}
}

/// The effect of the system call, with fences that loom supports.
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
