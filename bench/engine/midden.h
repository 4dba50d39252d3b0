/* The native interface as an engine.  Objects that may hold pointers are conservative ones, so that midden does the same
 * work as the other engines; objects without pointers are the kind that is not zeroed, for the same reason.  Pointers are
 * stored by midden_store in every mode: the modes differ in what the library does, not in the program. */
#ifndef BENCH_ENGINE_MIDDEN_H
#define BENCH_ENGINE_MIDDEN_H

#include <midden/barrier.h>
#include <midden/midden.h>
#include <pthread.h>

enum { ENGINE_COLLECTS = 1 };

static inline void *engine_alloc(size_t bytes) { return midden_alloc(bytes); }
static inline void *engine_alloc_data(size_t bytes) { return midden_alloc_kind(MIDDEN_RAW, bytes); }
static inline void engine_store(void *slot, const void *value) { midden_store(slot, value); }
static inline void engine_free(void *object) { (void)object; }
static inline void engine_collect(void) { midden_collect(); }
static inline void engine_disable(void) { midden_disable(); }
static inline void engine_enable(void) { midden_enable(); }

static inline void engine_finalizer(void *object, void (*function)(void *object, void *argument)) {
  midden_finalizer_set(object, function, NULL, MIDDEN_FINALIZE_ORDERED, NULL, NULL);
}
static inline void engine_weak_link(void **link, void *object) {
  midden_weak_link(link, object, MIDDEN_WEAK_BEFORE_FINALIZERS);
}
static inline void engine_run_finalizers(void) { midden_finalizers_run(SIZE_MAX); }

static inline void engine_blocking_call(void *(*function)(void *), void *argument) {
  midden_blocking_call(function, argument);
}

static inline int engine_thread_start(pthread_t *thread, void *(*run)(void *), void *argument) {
  return pthread_create(thread, NULL, run, argument);
}

static inline int engine_thread_join(pthread_t thread) { return pthread_join(thread, NULL); }

#endif
