/* libnccl.so over the host's memory: ranks meet in each call, and float32 is added in their order. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { char bytes[128]; } Id;
typedef struct Group {
  long id;
  int ranks, arrived, left, round;
  const float **shares;
  float *sum;
  pthread_mutex_t lock;
  pthread_cond_t changed;
  struct Group *next;
} Group;
typedef struct { Group *group; int rank; } Comm;
static Group *groups;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

int ncclGetVersion(int *version) { *version = 22800; return 0; }
int ncclGetUniqueId(Id *id) {
  static long number;
  memset(id, 0, sizeof *id);
  long next = __atomic_add_fetch(&number, 1, __ATOMIC_SEQ_CST);
  memcpy(id->bytes, &next, sizeof next);
  return 0;
}
const char *ncclGetErrorString(int error) { return error ? "an error" : "none"; }

/* All ranks of a group are here; the last one to come adds what they brought, if there is something. */
static void meet(Group *group, int rank, const float *share, size_t count) {
  pthread_mutex_lock(&group->lock);
  while (group->left) pthread_cond_wait(&group->changed, &group->lock);
  group->shares[rank] = share;
  if (++group->arrived == group->ranks) {
    free(group->sum);
    group->sum = calloc(count ? count : 1, sizeof(float));
    for (int each = 0; each < group->ranks; each++)
      for (size_t at = 0; at < count; at++) group->sum[at] += group->shares[each][at];
    group->arrived = 0;
    group->left = group->ranks;
    group->round++;
    pthread_cond_broadcast(&group->changed);
  } else {
    int round = group->round;
    while (group->round == round) pthread_cond_wait(&group->changed, &group->lock);
  }
}
static void leave(Group *group) {
  group->left--;
  pthread_cond_broadcast(&group->changed);
  pthread_mutex_unlock(&group->lock);
}

int ncclCommInitRank(Comm **comm, int ranks, Id id, int rank) {
  long number;
  memcpy(&number, id.bytes, sizeof number);
  pthread_mutex_lock(&lock);
  Group *group = groups;
  while (group && group->id != number) group = group->next;
  if (!group) {
    group = calloc(1, sizeof *group);
    group->id = number;
    group->ranks = ranks;
    group->shares = calloc(ranks, sizeof *group->shares);
    pthread_mutex_init(&group->lock, NULL);
    pthread_cond_init(&group->changed, NULL);
    group->next = groups;
    groups = group;
  }
  pthread_mutex_unlock(&lock);
  *comm = malloc(sizeof **comm);
  (*comm)->group = group;
  (*comm)->rank = rank;
  meet(group, rank, NULL, 0);
  leave(group);
  return 0;
}
int ncclCommDestroy(Comm *comm) { free(comm); return 0; }
int ncclAllReduce(const void *send, void *receive, size_t count, int dtype, int op, Comm *comm, void *stream) {
  (void)stream;
  if (dtype != 7 || op != 0) {
    fprintf(stderr, "NCCL over the host's memory adds float32 only\n");
    return 4;
  }
  meet(comm->group, comm->rank, send, count);
  memcpy(receive, comm->group->sum, count * sizeof(float));
  leave(comm->group);
  return 0;
}
