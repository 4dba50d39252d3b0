/* Registers that a function must save for its caller, each with a value that is nowhere else. */
#ifndef MIDDEN_TEST_SUPPORT_MARKED_REGISTERS_H
#define MIDDEN_TEST_SUPPORT_MARKED_REGISTERS_H

#include <stdint.h>

/* Calls target(first, second) with callee-saved register i, set to mark + i + 1. */
void call_with_marked_registers(void *target, uintptr_t first, uintptr_t second, uintptr_t mark);

#if defined(__x86_64__)
enum { CALLEE_SAVED = 6 };
__asm__(
    ".text\n"
    "call_with_marked_registers:\n"
    "  endbr64\n"
    "  pushq %rbx\n  pushq %rbp\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  subq $8, %rsp\n"
    "  movq %rdi, %rax\n  movq %rsi, %rdi\n  movq %rdx, %rsi\n"
    "  leaq 1(%rcx), %rbx\n  leaq 2(%rcx), %rbp\n  leaq 3(%rcx), %r12\n"
    "  leaq 4(%rcx), %r13\n  leaq 5(%rcx), %r14\n  leaq 6(%rcx), %r15\n"
    "  xorl %ecx, %ecx\n"
    "  callq *%rax\n"
    "  addq $8, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbp\n  popq %rbx\n"
    "  retq\n");
#elif defined(__aarch64__)
enum { CALLEE_SAVED = 19 };
__asm__(
    ".text\n"
    "call_with_marked_registers:\n"
    "  stp x29, x30, [sp, #-160]!\n"
    "  stp x19, x20, [sp, #16]\n  stp x21, x22, [sp, #32]\n  stp x23, x24, [sp, #48]\n"
    "  stp x25, x26, [sp, #64]\n  stp x27, x28, [sp, #80]\n  stp d8, d9, [sp, #96]\n"
    "  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
    "  mov x4, x0\n  mov x0, x1\n  mov x1, x2\n"
    "  add x19, x3, #1\n  add x20, x3, #2\n  add x21, x3, #3\n  add x22, x3, #4\n  add x23, x3, #5\n"
    "  add x24, x3, #6\n  add x25, x3, #7\n  add x26, x3, #8\n  add x27, x3, #9\n  add x28, x3, #10\n"
    "  add x29, x3, #11\n"
    "  add x5, x3, #12\n  fmov d8, x5\n  add x5, x3, #13\n  fmov d9, x5\n  add x5, x3, #14\n  fmov d10, x5\n"
    "  add x5, x3, #15\n  fmov d11, x5\n  add x5, x3, #16\n  fmov d12, x5\n  add x5, x3, #17\n  fmov d13, x5\n"
    "  add x5, x3, #18\n  fmov d14, x5\n  add x5, x3, #19\n  fmov d15, x5\n"
    "  mov x3, xzr\n  mov x5, xzr\n"
    "  blr x4\n"
    "  ldp x19, x20, [sp, #16]\n  ldp x21, x22, [sp, #32]\n  ldp x23, x24, [sp, #48]\n"
    "  ldp x25, x26, [sp, #64]\n  ldp x27, x28, [sp, #80]\n  ldp d8, d9, [sp, #96]\n"
    "  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
    "  ldp x29, x30, [sp], #160\n"
    "  ret\n");
#endif

static const uintptr_t CALL_MARK = 0xca11ca11ca110000;

#endif
