/* Threads made by GC_pthread_create.
 *
 * The creator hands function and argument over on its own stack and waits until the new thread has attached itself and
 * read them: from then on the argument is on a stack that the collector scans.  A record holds the thread's result
 * until it is joined; a detached thread's record goes when the thread ends.
 *
 * Records are malloc memory, reported by the root callback.  The list and its records change in midden_locked_call, so
 * never beside a collection, but for `result`, which is one store.  A record is looked up by its thread's id before that is
 * joined or detached: from then on another thread may have the id. */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>

#include "shim.h"

struct spawn_record {
  struct spawn_record *next;
  pthread_t thread;
  void *result; /* a root */
  bool detached;
  bool finished;
};

/* What a new thread is given: valid until it posts `started`. */
struct spawn_start {
  struct spawn_record *record;
  void *(*function)(void *);
  void *argument;
  sem_t started;
};

static struct spawn_record *spawn_list;

static SHIM_THREAD_LOCAL struct spawn_record *spawn_mine;

void spawn_trace_results(struct midden_tracer *tracer) {
  for (struct spawn_record *record = spawn_list; record; record = record->next) midden_trace(tracer, record->result);
}

/* ---- the list ---- */

static void *spawn_link_locked(void *argument) {
  struct spawn_record *record = argument;
  record->next = spawn_list;
  spawn_list = record;
  return record;
}

static void spawn_unlink_locked(struct spawn_record *record) {
  struct spawn_record **at = &spawn_list;
  while (*at && *at != record) at = &(*at)->next;
  if (*at) *at = record->next;
}

static struct spawn_record *spawn_find_locked(pthread_t thread) {
  struct spawn_record *record = spawn_list;
  while (record && !pthread_equal(record->thread, thread)) record = record->next;
  return record;
}

/* ---- its three ends: each returns the record if nobody needs it any more ---- */

static void *spawn_finish_locked(void *argument) {
  struct spawn_record *record = argument;
  record->finished = true;
  if (!record->detached) return NULL;
  spawn_unlink_locked(record);
  return record;
}

static void *spawn_look_up_locked(void *thread) { return spawn_find_locked(*(pthread_t *)thread); }

static void *spawn_join_locked(void *record) {
  spawn_unlink_locked(record);
  return record;
}

static void *spawn_detach_locked(void *thread) {
  struct spawn_record *record = spawn_find_locked(*(pthread_t *)thread);
  if (!record) return NULL;
  record->detached = true;
  if (!record->finished) return NULL;
  spawn_unlink_locked(record);
  return record;
}

/* ---- the new thread ---- */

/* Runs at the thread's end, however it ends. */
static void spawn_finish(void *record) {
  spawn_mine = NULL;
  free(midden_locked_call(spawn_finish_locked, record));
}

static void *spawn_run(void *given) {
  struct spawn_start *start = given;
  struct spawn_record *record = start->record;
  midden_thread_attach();
  void *(*function)(void *) = start->function;
  void *volatile argument = start->argument;
  record->thread = pthread_self();
  midden_locked_call(spawn_link_locked, record);
  spawn_mine = record;
  void *result;
  pthread_cleanup_push(spawn_finish, record);
  sem_post(&start->started);
  result = function(argument);
  record->result = result;
  pthread_cleanup_pop(1);
  return result;
}

static bool spawn_wants_detached(const pthread_attr_t *attributes) {
  int state = PTHREAD_CREATE_JOINABLE;
  if (attributes) pthread_attr_getdetachstate(attributes, &state);
  return state == PTHREAD_CREATE_DETACHED;
}

/* sem_wait is a cancellation point and pthread_create is none: a creator cancelled here would take its stack, and `start`
 * on it, away from the new thread. */
static void spawn_wait(struct spawn_start *start) {
  int state;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
  while (sem_wait(&start->started) < 0 && errno == EINTR) continue;
  pthread_setcancelstate(state, NULL);
}

int GC_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*function)(void *), void *argument) {
  struct spawn_record *record = calloc(1, sizeof(*record));
  if (!record) return EAGAIN;
  record->detached = spawn_wants_detached(attributes);
  struct spawn_start start = {.record = record, .function = function, .argument = argument};
  sem_init(&start.started, 0, 0);
  int error = pthread_create(thread, attributes, spawn_run, &start);
  if (error) {
    free(record);
    return error;
  }
  spawn_wait(&start);
  return 0;
}

/* ---- its end ---- */

void GC_pthread_exit(void *result) {
  if (spawn_mine) spawn_mine->result = result;
  pthread_exit(result);
}

int GC_pthread_join(pthread_t thread, void **result) {
  void *record = midden_locked_call(spawn_look_up_locked, &thread);
  int error = pthread_join(thread, result);
  if (error == 0 && record) free(midden_locked_call(spawn_join_locked, record));
  return error;
}

int GC_pthread_detach(pthread_t thread) {
  free(midden_locked_call(spawn_detach_locked, &thread));
  return pthread_detach(thread);
}

int GC_pthread_cancel(pthread_t thread) { return pthread_cancel(thread); }

/* ---- signals, libraries ---- */

int GC_pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
  sigset_t allowed;
  if (set && how != SIG_UNBLOCK) {
    allowed = *set;
    sigdelset(&allowed, midden_suspend_signal());
    set = &allowed;
  }
  return pthread_sigmask(how, set, old);
}

void *GC_dlopen(const char *path, int mode) { return dlopen(path, mode); }
