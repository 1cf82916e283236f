//! The driver's functions. Each is a jump through a slot of one table.
//!
//! A slot first holds the address of `cumem_libcuda_lazy`. That routine saves the arguments and calls [`resolve`],
//! which fills the table. Then it jumps to the address that the slot holds now. Each function leaves the address of its
//! slot in a scratch register (r11, x16), so that one `cumem_libcuda_lazy` serves all functions.

use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::symbols::symbols;
use crate::{Library, load};

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("cumem-libcuda supports Linux on x86-64 and AArch64 only");

/// The error code that a function returns if no driver could be loaded.
const SHARED_OBJECT_INIT_FAILED: u32 = 303;
/// The error code that a function returns if the driver lacks its symbol.
const NOT_FOUND: u32 = 500;

// The body of the function `$name`.
#[cfg(target_arch = "x86_64")]
macro_rules! jump {
    ($name:literal) => {
        concat!("endbr64\nlea r11, [rip + .Lslot_", $name, "]\njmp [r11]")
    };
}

// The load has acquire order, so that everything that loading the driver wrote is visible to the function.
#[cfg(target_arch = "aarch64")]
macro_rules! jump {
    ($name:literal) => {
        concat!(
            "hint #34\nadrp x16, .Lslot_",
            $name,
            "\nadd x16, x16, :lo12:.Lslot_",
            $name,
            "\nldar x17, [x16]\nbr x17"
        )
    };
}

// The symbols are hidden: this program's calls use them, but they do not replace the driver's symbols in other
// libraries.
macro_rules! define {
    ($($name:literal)*) => {
        /// The names of the functions that this crate defines: all that `cust_raw` 0.11.3 declares.
        pub const SYMBOLS: &[&str] = &[$($name),*];

        std::arch::global_asm!(
            ".pushsection .data.rel.cumem_libcuda, \"aw\", @progbits",
            ".balign 8",
            ".globl cumem_libcuda_table",
            ".hidden cumem_libcuda_table",
            "cumem_libcuda_table:",
            ".popsection",
            ".pushsection .text.cumem_libcuda, \"ax\", @progbits",
            $(concat!(
                ".pushsection .data.rel.cumem_libcuda, \"aw\", @progbits\n",
                ".Lslot_", $name, ": .quad cumem_libcuda_lazy\n",
                ".popsection\n",
                ".balign 16\n",
                ".globl ", $name, "\n.hidden ", $name, "\n.type ", $name, ", @function\n",
                $name, ":\n",
                jump!($name),
                "\n.size ", $name, ", . - ", $name,
            ),)*
            ".popsection",
        );
    };
}

symbols!(define);

// The floating-point arguments are saved at the stack pointer, the integer arguments above them.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".pushsection .text.cumem_libcuda, \"ax\", @progbits",
    ".balign 16",
    ".globl cumem_libcuda_lazy",
    ".hidden cumem_libcuda_lazy",
    ".type cumem_libcuda_lazy, @function",
    "cumem_libcuda_lazy:",
    ".cfi_startproc",
    "endbr64",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    // Eight registers of 16 bytes and six of 8. The sum keeps the stack alignment that `push` made.
    "sub rsp, 176",
    "movaps [rsp], xmm0",
    "movaps [rsp + 16], xmm1",
    "movaps [rsp + 32], xmm2",
    "movaps [rsp + 48], xmm3",
    "movaps [rsp + 64], xmm4",
    "movaps [rsp + 80], xmm5",
    "movaps [rsp + 96], xmm6",
    "movaps [rsp + 112], xmm7",
    "mov [rsp + 128], rdi",
    "mov [rsp + 136], rsi",
    "mov [rsp + 144], rdx",
    "mov [rsp + 152], rcx",
    "mov [rsp + 160], r8",
    "mov [rsp + 168], r9",
    "mov rdi, r11",
    "call {resolve}",
    "mov r11, rax",
    "movaps xmm0, [rsp]",
    "movaps xmm1, [rsp + 16]",
    "movaps xmm2, [rsp + 32]",
    "movaps xmm3, [rsp + 48]",
    "movaps xmm4, [rsp + 64]",
    "movaps xmm5, [rsp + 80]",
    "movaps xmm6, [rsp + 96]",
    "movaps xmm7, [rsp + 112]",
    "mov rdi, [rsp + 128]",
    "mov rsi, [rsp + 136]",
    "mov rdx, [rsp + 144]",
    "mov rcx, [rsp + 152]",
    "mov r8, [rsp + 160]",
    "mov r9, [rsp + 168]",
    "leave",
    ".cfi_def_cfa rsp, 8",
    "jmp r11",
    ".cfi_endproc",
    ".size cumem_libcuda_lazy, . - cumem_libcuda_lazy",
    ".popsection",
    resolve = sym resolve,
);

#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(
    ".pushsection .text.cumem_libcuda, \"ax\", @progbits",
    ".balign 16",
    ".globl cumem_libcuda_lazy",
    ".hidden cumem_libcuda_lazy",
    ".type cumem_libcuda_lazy, @function",
    "cumem_libcuda_lazy:",
    ".cfi_startproc",
    "hint #34",
    // The frame record of 16 bytes, eight registers of 8 bytes, and eight of 16.
    "stp x29, x30, [sp, #-208]!",
    ".cfi_def_cfa_offset 208",
    ".cfi_offset x29, -208",
    ".cfi_offset x30, -200",
    "mov x29, sp",
    "stp x0, x1, [sp, #16]",
    "stp x2, x3, [sp, #32]",
    "stp x4, x5, [sp, #48]",
    "stp x6, x7, [sp, #64]",
    "stp q0, q1, [sp, #80]",
    "stp q2, q3, [sp, #112]",
    "stp q4, q5, [sp, #144]",
    "stp q6, q7, [sp, #176]",
    "mov x0, x16",
    "bl {resolve}",
    "mov x16, x0",
    "ldp x0, x1, [sp, #16]",
    "ldp x2, x3, [sp, #32]",
    "ldp x4, x5, [sp, #48]",
    "ldp x6, x7, [sp, #64]",
    "ldp q0, q1, [sp, #80]",
    "ldp q2, q3, [sp, #112]",
    "ldp q4, q5, [sp, #144]",
    "ldp q6, q7, [sp, #176]",
    "ldp x29, x30, [sp], #208",
    ".cfi_def_cfa_offset 0",
    ".cfi_restore x29",
    ".cfi_restore x30",
    "br x16",
    ".cfi_endproc",
    ".size cumem_libcuda_lazy, . - cumem_libcuda_lazy",
    ".popsection",
    resolve = sym resolve,
);

// SAFETY: the table is defined above. It has one pointer-sized slot for each symbol, and each slot holds an address.
unsafe extern "C" {
    #[link_name = "cumem_libcuda_table"]
    safe static TABLE: [AtomicPtr<c_void>; SYMBOLS.len()];
}

// Makes the linker include the object that holds the functions, in whichever order the libraries are linked.
#[used]
static KEEP: &[AtomicPtr<c_void>; SYMBOLS.len()] = &TABLE;

/// Sets every slot to the driver's function, or to a function that returns an error code.
pub(crate) fn fill(library: Option<&Library>) {
    for (slot, name) in TABLE.iter().zip(SYMBOLS) {
        let function = match library.map(|library| library.symbol(name)) {
            Some(Ok(function)) => function.as_ptr(),
            Some(Err(_)) => not_found as *mut c_void,
            None => no_driver as *mut c_void,
        };
        slot.store(function, Ordering::Release);
    }
}

/// Loads the driver and returns the address that the slot then holds, which is never `cumem_libcuda_lazy` again.
extern "C" fn resolve(slot: &AtomicPtr<c_void>) -> *mut c_void {
    // If loading fails, the slot holds a function that returns the error code, so the result is not needed here.
    let _ = load();
    slot.load(Ordering::Acquire)
}

extern "C" fn not_found() -> u32 {
    NOT_FOUND
}

extern "C" fn no_driver() -> u32 {
    SHARED_OBJECT_INIT_FAILED
}
