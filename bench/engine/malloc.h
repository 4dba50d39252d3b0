/* The C library's malloc and free as an engine: what the same work costs a program that frees by hand. */
#ifndef BENCH_ENGINE_MALLOC_H
#define BENCH_ENGINE_MALLOC_H

#include <pthread.h>
#include <stdlib.h>

enum { ENGINE_COLLECTS = 0 };

static inline void *engine_alloc(size_t bytes) { return calloc(1, bytes); }
static inline void *engine_alloc_data(size_t bytes) { return malloc(bytes); }
static inline void engine_store(void *slot, const void *value) {
  __atomic_store_n((const void **)slot, value, __ATOMIC_RELEASE);
}
static inline void engine_free(void *object) { free(object); }
static inline void engine_collect(void) {}
static inline void engine_disable(void) {}
static inline void engine_enable(void) {}

static inline void engine_finalizer(void *object, void (*function)(void *object, void *argument)) {
  (void)object;
  (void)function;
}
static inline void engine_weak_link(void **link, void *object) {
  (void)link;
  (void)object;
}
static inline void engine_run_finalizers(void) {}

static inline void engine_blocking_call(void *(*function)(void *), void *argument) { function(argument); }

static inline int engine_thread_start(pthread_t *thread, void *(*run)(void *), void *argument) {
  return pthread_create(thread, NULL, run, argument);
}

static inline int engine_thread_join(pthread_t thread) { return pthread_join(thread, NULL); }

#endif
