/* Threads made by GC_pthread_create.
 *
 * The creator hands function and argument over on its own stack and waits until the new thread has attached itself and
 * read them: from then on the argument is on a stack that the collector scans.  A record holds the thread's result
 * until it is joined; a detached thread's record goes when the thread ends.
 *
 * Records are malloc memory, reported by the root callback.  The list changes under spawn_lock, by single stores that
 * keep it whole at every moment, for the world may be stopped while a thread holds the lock.  A record is looked up by
 * its thread's id, which cannot be given to another thread before that one was joined. */
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
  void *result;  /* a root */
  bool detached; /* under spawn_lock, like finished */
  bool finished;
};

/* What a new thread is given: valid until it posts `started`. */
struct spawn_start {
  struct spawn_record *record;
  void *(*function)(void *);
  void *argument;
  sem_t started;
};

static pthread_mutex_t spawn_lock = PTHREAD_MUTEX_INITIALIZER;
static struct spawn_record *spawn_list; /* written under the lock; read by collections */

static SHIM_THREAD_LOCAL struct spawn_record *spawn_mine;

void spawn_trace_results(struct midden_tracer *tracer) {
  for (struct spawn_record *record = spawn_list; record; record = record->next) midden_trace(tracer, record->result);
}

/* ---- the list ---- */

static void spawn_link(struct spawn_record *record) {
  pthread_mutex_lock(&spawn_lock);
  record->next = spawn_list;
  __atomic_store_n(&spawn_list, record, __ATOMIC_RELEASE);
  pthread_mutex_unlock(&spawn_lock);
}

static void spawn_unlink_locked(struct spawn_record *record) {
  struct spawn_record **at = &spawn_list;
  while (*at && *at != record) at = &(*at)->next;
  if (*at) __atomic_store_n(at, record->next, __ATOMIC_RELEASE);
}

static struct spawn_record *spawn_find_locked(pthread_t thread) {
  struct spawn_record *record = spawn_list;
  while (record && !pthread_equal(record->thread, thread)) record = record->next;
  return record;
}

/* ---- the new thread ---- */

/* Runs at the thread's end, however it ends.  No walk of the list can hold the record when it is freed: walks happen
 * while this thread is stopped. */
static void spawn_finish(void *argument) {
  struct spawn_record *record = argument;
  pthread_mutex_lock(&spawn_lock);
  record->finished = true;
  bool detached = record->detached;
  if (detached) spawn_unlink_locked(record);
  pthread_mutex_unlock(&spawn_lock);
  spawn_mine = NULL;
  if (detached) free(record);
}

static void *spawn_run(void *given) {
  struct spawn_start *start = given;
  struct spawn_record *record = start->record;
  midden_thread_attach();
  void *(*function)(void *) = start->function;
  void *volatile argument = start->argument;
  record->thread = pthread_self();
  spawn_link(record);
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
  while (sem_wait(&start.started) < 0 && errno == EINTR) continue;
  return 0;
}

/* ---- its end ---- */

void GC_pthread_exit(void *result) {
  if (spawn_mine) spawn_mine->result = result;
  pthread_exit(result);
}

int GC_pthread_join(pthread_t thread, void **result) {
  int error = pthread_join(thread, result);
  if (error) return error;
  pthread_mutex_lock(&spawn_lock);
  struct spawn_record *record = spawn_find_locked(thread);
  if (record) spawn_unlink_locked(record);
  pthread_mutex_unlock(&spawn_lock);
  free(record);
  return 0;
}

int GC_pthread_detach(pthread_t thread) {
  pthread_mutex_lock(&spawn_lock);
  struct spawn_record *record = spawn_find_locked(thread);
  bool finished = record && record->finished;
  if (record) record->detached = true;
  if (finished) spawn_unlink_locked(record);
  pthread_mutex_unlock(&spawn_lock);
  if (finished) free(record);
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
