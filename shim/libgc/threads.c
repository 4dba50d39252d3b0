/* Threads as the program registers them, their stacks, and calls that concern all threads.
 *
 * midden attaches a thread at its first use of the heap, so registering is only needed for a thread that wants a stack
 * base of its own, or that holds objects without having used the heap.  Nothing here may attach a thread by accident:
 * GC_register_my_thread must be able to tell that the thread is new. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "shim.h"

int threads_in_main(void) { return gettid() == getpid(); }

/* ---- registration ---- */

void GC_allow_register_threads(void) {}

int GC_thread_is_registered(void) { return midden_thread_is_attached(); }

int GC_register_my_thread(const struct GC_stack_base *base) {
  if (midden_thread_is_attached()) return GC_DUPLICATE;
  return midden_thread_attach_at(base->mem_base) == 0 ? GC_SUCCESS : GC_NO_MEMORY;
}

int GC_unregister_my_thread(void) {
  midden_thread_detach();
  return GC_SUCCESS;
}

/* ---- stacks ---- */

int GC_get_stack_base(struct GC_stack_base *base) {
  pthread_attr_t attributes;
  void *start;
  size_t bytes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return GC_UNIMPLEMENTED;
  pthread_attr_getstack(&attributes, &start, &bytes);
  pthread_attr_destroy(&attributes);
  base->mem_base = (char *)start + bytes;
  return GC_SUCCESS;
}

void *GC_call_with_stack_base(GC_stack_base_func function, void *argument) {
  struct GC_stack_base base = {.mem_base = __builtin_frame_address(0)};
  void *result = function(&base, argument);
  GC_reachable_here(&base); /* keeps this frame below the call */
  return result;
}

void *GC_get_my_stackbottom(struct GC_stack_base *base) {
  base->mem_base = threads_in_main() && GC_stackbottom ? GC_stackbottom : midden_thread_stack_base();
  return midden_thread_self();
}

void GC_set_stackbottom(void *thread, const struct GC_stack_base *base) {
  void *self = midden_thread_self();
  if (midden_thread_set_stack_base_of(thread ? thread : self, base->mem_base) != -EPERM)
    return; /* the world is stopped */
  if (thread && thread != self)
    report_fatal("libgc: GC_set_stackbottom for another thread than the calling one, while that may run");
  if (threads_in_main()) {
    config_set_stack_bottom(base->mem_base);
  } else {
    midden_thread_set_stack_base(base->mem_base);
  }
}

/* midden tells by the stack pointer when a thread runs on its alternate stack. */
void GC_register_altstack(void *stack, GC_word stack_bytes, void *altstack, GC_word altstack_bytes) {
  (void)stack;
  (void)stack_bytes;
  (void)altstack;
  (void)altstack_bytes;
}

/* ---- blocking calls ---- */

/* Whether this thread is in GC_do_blocking: a second call inside is let pass. */
static SHIM_THREAD_LOCAL bool threads_blocking;

void *GC_do_blocking(GC_fn_type function, void *argument) {
  if (threads_blocking) return function(argument);
  threads_blocking = true;
  void *result = midden_blocking_call(function, argument);
  threads_blocking = false;
  return result;
}

void *GC_call_with_gc_active(GC_fn_type function, void *argument) {
  bool blocking = threads_blocking;
  threads_blocking = false;
  void *result = midden_active_call(function, argument);
  threads_blocking = blocking;
  return result;
}

/* ---- all threads ---- */

void GC_stop_world_external(void) { midden_world_stop(); }
void GC_start_world_external(void) { midden_world_resume(); }

/* libgc's lock keeps others from allocating too; what programs guard by it is that no collection starts and that they
 * exclude each other, by whichever of these functions.  It is taken before midden's.  A fork waits for it, so that the child does not
 * inherit it locked by another thread. */
static pthread_mutex_t threads_alloc_lock = PTHREAD_MUTEX_INITIALIZER;
static SHIM_THREAD_LOCAL bool threads_has_lock;

static void threads_lock(void) {
  pthread_mutex_lock(&threads_alloc_lock);
  threads_has_lock = true;
}

static void threads_unlock(void) {
  threads_has_lock = false;
  pthread_mutex_unlock(&threads_alloc_lock);
}

static SHIM_THREAD_LOCAL GC_fn_type threads_function; /* to be called with the lock, until it is */

static void *threads_call_and_unlock(void *argument) {
  void *result = threads_function(argument);
  threads_unlock();
  return result;
}

/* Nothing comes after midden_locked_call: what its caller does next is not interrupted by a stop, and that is to be the program. */
void *GC_call_with_alloc_lock(GC_fn_type function, void *argument) {
  if (threads_has_lock) return midden_locked_call(function, argument);
  threads_lock();
  threads_function = function;
  return midden_locked_call(threads_call_and_unlock, argument);
}

void GC_alloc_lock(void) {
  threads_lock();
  midden_disable();
}

void GC_alloc_unlock(void) {
  midden_enable();
  threads_unlock();
}

/* ---- signals ---- */

int GC_get_suspend_signal(void) { return midden_suspend_signal(); }

/* midden started, and took its signal, when this library was loaded. */
void GC_set_suspend_signal(int signal) {
  if (midden_set_suspend_signal(signal) < 0)
    report_warning("GC_set_suspend_signal: threads are stopped by signal %lu all the same\n",
                   (GC_word)midden_suspend_signal());
}

/* ---- fork ---- */

static int threads_handle_fork; /* as the program set it */

/* Not by who has it: parent and child go on with it. */
static void threads_lock_for_fork(void) {
  if (!threads_has_lock) pthread_mutex_lock(&threads_alloc_lock);
}

static void threads_unlock_after_fork(void) {
  if (!threads_has_lock) pthread_mutex_unlock(&threads_alloc_lock);
}

void threads_init(void) { pthread_atfork(threads_lock_for_fork, threads_unlock_after_fork, threads_unlock_after_fork); }

void GC_set_handle_fork(int value) {
  threads_handle_fork = value;
  midden_fork_manual(value < 0);
}

/* Where forks are handled by themselves, the program's calls are to do nothing. */
void GC_atfork_prepare(void) {
  if (threads_handle_fork < 0) midden_fork_prepare();
}

void GC_atfork_parent(void) {
  if (threads_handle_fork < 0) midden_fork_parent();
}

void GC_atfork_child(void) {
  if (threads_handle_fork < 0) midden_fork_child();
}
