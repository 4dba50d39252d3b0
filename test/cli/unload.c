/* A program opens a plugin that uses the library, and closes it again: nothing of the library's may be left to crash.  Its threads
 * go on, a thread that has used it ends later, the process exits.
 *
 *   unload LIBRARY ALLOCATE COLLECT    the library, and the names of its functions */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ROUNDS = 3, ALLOCATIONS = 300000, ENOUGH_US = 100000 };

static void *(*allocate)(size_t bytes);
static pthread_barrier_t used, closed;

/* Uses it, and ends when it is closed. */
static void *end_later(void *argument) {
  void *object = allocate(64);
  pthread_barrier_wait(&used);
  pthread_barrier_wait(&closed);
  return object != NULL ? argument : NULL;
}

static int open_and_close(char **words) {
  pthread_t thread;
  void *result, *library = dlopen(words[1], RTLD_NOW);
  if (library == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  *(void **)&allocate = dlsym(library, words[2]);
  void (*collect)(void);
  *(void **)&collect = dlsym(library, words[3]);
  if (allocate == NULL || collect == NULL) return 2;
  for (int i = 0; i < ALLOCATIONS; i++) allocate(64);
  collect();
  if (pthread_create(&thread, NULL, end_later, words) != 0) return 3;
  pthread_barrier_wait(&used);
  if (dlclose(library) != 0) return 4;
  pthread_barrier_wait(&closed);
  pthread_join(thread, &result);
  return result == words ? 0 : 5;
}

int main(int argc, char **argv) {
  if (argc != 4) return 99;
  setenv("MIDDEN_SCAVENGE_AFTER", "1", 1); /* its thread wakes up */
  pthread_barrier_init(&used, NULL, 2);
  pthread_barrier_init(&closed, NULL, 2);
  for (int i = 0; i < ROUNDS; i++) {
    int error = open_and_close(argv);
    if (error != 0) return error;
    usleep(ENOUGH_US);
  }
  return 0;
}
