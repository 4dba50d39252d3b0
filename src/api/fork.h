/* Forking: the child gets a heap at rest, with the forking thread as its only mutator. */
#ifndef MIDDEN_API_FORK_H
#define MIDDEN_API_FORK_H

/* Prepares all forks from here on.  0 or -errno.  Once is enough: as the library is loaded, or where that failed as it starts. */
int fork_init(void);

#endif
