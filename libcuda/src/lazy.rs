//! `cumem_libcuda_lazy`, the routine that each slot of the table points to until the driver has been loaded.
//!
//! The routine saves the arguments of the call and calls [`resolve`], which fills the table. Then it restores the
//! arguments and jumps to the address that the slot holds now. It finds the slot's address in r11 (x16).

use std::ffi::c_void;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::load::load;

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

/// Loads the driver and returns the address that the slot then holds, which is never `cumem_libcuda_lazy` again.
extern "C" fn resolve(slot: &AtomicPtr<c_void>) -> *mut c_void {
    // If loading fails, the slot holds a function that returns the error code, so the result is not needed here.
    let _ = load();
    slot.load(Ordering::Acquire)
}
