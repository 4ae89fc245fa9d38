// Switching between the stacks of threads. A switch saves what a call must preserve and nothing else: no system call.
#pragma once
#include <stddef.h>
#include <stdint.h>

#if !defined(MSL_UCONTEXT) && !defined(__x86_64__) && !defined(__aarch64__)
#define MSL_UCONTEXT
#endif
#ifdef MSL_UCONTEXT
#include <ucontext.h>
#endif

namespace msl_rt {

#ifdef MSL_UCONTEXT

struct Context {
    ucontext_t state;
};

inline void switch_context(Context& from, Context& to) { swapcontext(&from.state, &to.state); }

inline void start_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
    getcontext(&context.state);
    context.state.uc_stack.ss_sp = stack;
    context.state.uc_stack.ss_size = bytes;
    context.state.uc_link = nullptr;
    makecontext(&context.state, entry, 0);
}

#else

struct Context {
    void* stack_pointer;
};

extern "C" void msl_switch_stacks(void** save, void* load) asm("msl_switch_stacks");

#if defined(__x86_64__)
// Callee-saved registers of the System V ABI; rdi = where to leave this stack pointer, rsi = the one to take.
asm(R"(
    .text
    .p2align 4
msl_switch_stacks:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");
constexpr size_t RETURN = 6;
constexpr size_t FRAME = 8;  // words, so that the entry finds the alignment that a call would leave
#else
// AAPCS64: x19 to x30 and the low halves of v8 to v15; x0 = where to leave this stack pointer, x1 = the one to take.
asm(R"(
    .text
    .p2align 4
msl_switch_stacks:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
)");
constexpr size_t RETURN = 11;  // the slot of x30
constexpr size_t FRAME = 20;
#endif

inline void switch_context(Context& from, Context& to) { msl_switch_stacks(&from.stack_pointer, to.stack_pointer); }

inline void start_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
    auto top = reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t(15);
    auto* frame = reinterpret_cast<void**>(top) - FRAME;
    for (size_t i = 0; i < FRAME; ++i) frame[i] = nullptr;
    frame[RETURN] = reinterpret_cast<void*>(entry);
    context.stack_pointer = frame;
}

#endif

}  // namespace msl_rt
