/* A thread that the library has not seen yet allocates, and there is no memory left to register it: NULL, as where there is none for
 * an object.  The message of the usual function for that asked for the size of the heap, which no thread can that is not
 * registered: it stopped the process.  (Heavy: a sanitizer needs address space.) */
#define GC_NO_THREAD_REDIRECTS
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "gc_check.h"

enum { THREADS = 300, STACK_BYTES = 64 << 10 };

static pthread_barrier_t start, end;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int refused, warned;

static void count_warning(char *format, GC_word argument) {
  (void)format, (void)argument;
  warned++;
}

static void *allocate(void *argument) {
  pthread_barrier_wait(&start);
  pthread_mutex_lock(&lock);
  if (!GC_malloc(64)) refused++;
  pthread_mutex_unlock(&lock);
  pthread_barrier_wait(&end);
  return argument;
}

int main(void) {
  pthread_attr_t attributes;
  pthread_t thread;
  GC_INIT();
  GC_set_warn_proc(count_warning);
  CHECK(GC_malloc(64));
  pthread_barrier_init(&start, NULL, THREADS + 1);
  pthread_barrier_init(&end, NULL, THREADS + 1);
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  for (int i = 0; i < THREADS; i++) CHECK(pthread_create(&thread, &attributes, allocate, NULL) == 0);
  struct rlimit nothing = {.rlim_cur = 1 << 20, .rlim_max = 1 << 20};
  CHECK(setrlimit(RLIMIT_AS, &nothing) == 0);
  pthread_barrier_wait(&start);
  pthread_barrier_wait(&end);
  CHECK(refused > 0);
  CHECK(warned >= refused);
  _exit(0);
}
