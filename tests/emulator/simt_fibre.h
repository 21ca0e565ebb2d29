// A fibre: a stack of its own and a place to continue. `switch_context` leaves one fibre and continues
// another.
//
// On x86-64 it is a dozen instructions; ucontext, used elsewhere, makes a system call per switch to save the
// signal mask, and a block of 256 threads switches thousands of times.
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__) && !defined(SIMT_USE_UCONTEXT)

// Saves the registers that a call preserves, and the stack pointer itself at *save; then the reverse from
// `load`.
extern "C" void simt_switch_stacks(void** save, void* load);
asm(R"(
  .text
  .type simt_switch_stacks, @function
  .hidden simt_switch_stacks
  .globl simt_switch_stacks
simt_switch_stacks:
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
  .size simt_switch_stacks, .-simt_switch_stacks
)");

namespace simt {

using Context = void*;

// `entry` must never return.
inline void prepare_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
  auto* top = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(stack + bytes) & ~uintptr_t{15});
  top[-1] = nullptr;                         // where a return address would be: keeps the ABI's alignment
  top[-2] = reinterpret_cast<void*>(entry);  // what `ret` pops
  for (int n = 3; n <= 8; ++n) top[-n] = nullptr;  // the six registers
  context = top - 8;
}

inline void switch_context(Context& from, Context& to) { simt_switch_stacks(&from, to); }

}  // namespace simt

#else

#include <ucontext.h>

namespace simt {

using Context = ucontext_t;

inline void prepare_context(Context& context, char* stack, size_t bytes, void (*entry)()) {
  getcontext(&context);
  context.uc_stack.ss_sp = stack;
  context.uc_stack.ss_size = bytes;
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
}

inline void switch_context(Context& from, Context& to) { swapcontext(&from, &to); }

}  // namespace simt

#endif
