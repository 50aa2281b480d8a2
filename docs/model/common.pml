/* What the models share: epochs, the statuses of a transaction, and a Redis that forgets.
 *
 * Each model says what Redis holds in one record, `Redis`, of which there are two: `now`, and `replica`, the state that
 * a failover brings back. The replica takes over what is so at any moment, or lags for as long as it likes; so a failover
 * may lose any number of the newest writes. It keeps its state after a failover: two in a row can go back to one moment.
 * A script of orbit/store/scripts is one atomic step, as it is in Redis.
 *
 * Time isn't modelled: whatever a clock decides (a lease runs out, a message is late, a process stands still) may
 * happen at any moment.
 *
 * A model defines `copy(to, from)`, and `on_failover()`: what those who are connected notice.
 */
#define READY   0
#define RUNNING 1
#define IDLE    2
#define ENDED   3

#ifndef FAILOVERS
#define FAILOVERS 2
#endif

byte failovers;
byte clock;

/* lib/clock.lua, next_epoch: the server's clock and random digits, so an epoch is new even where Redis forgot the one
 * before. That two draws differ is taken for granted here; in the code it rests on microseconds and three digits. */
inline next_epoch(before, drawn) {
#ifdef EPOCH_REUSED
  drawn = before + 1;
#else
  clock++;
  drawn = clock;
#endif
}

inline replicate_or_fail_over() {
  do
  :: d_step { failovers < FAILOVERS -> copy(replica, now) }
  :: d_step { failovers < FAILOVERS -> failovers++; copy(now, replica); on_failover();
       if
       :: failovers == FAILOVERS -> copy(replica, nothing) /* never needed again: fewer states */
       :: else
       fi }
  od
}
