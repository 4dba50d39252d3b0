/* Forking: the child gets a heap at rest, with the forking thread as its only mutator. */
#ifndef MIDDEN_API_FORK_H
#define MIDDEN_API_FORK_H

/* Prepares all forks from here on.  0 or -errno.  Once is enough, where a start fails and is tried again. */
int fork_init(void);

#endif
