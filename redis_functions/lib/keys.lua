-- Generated from libs/redis/keys.py by `python -m libs.redis.keys`; do not edit.
local M = {}

M.SCHEMA = 5

-- string: schema number of all keys.
function M.schema(ns)
  return ns .. "voltage:schema"
end

-- hash: schema number -> how the keys came to it, JSON.
function M.migrations(ns)
  return ns .. "voltage:migrations"
end

-- string: number of the last accepted call.
function M.image(ns)
  return ns .. "voltage:image"
end

-- string: random token, new at each change of a definition.
function M.generation(ns)
  return ns .. "voltage:generation"
end

-- hash: last instant, simulation flag, clock steps seen.
function M.clock(ns)
  return ns .. "voltage:clock"
end

-- zset: timers by due instant.
function M.timers(ns)
  return ns .. "voltage:timers"
end

-- list: transitions past the budget of a call, drained by tick.
function M.deferred(ns)
  return ns .. "voltage:deferred"
end

-- hash: counters of samples, in total.
function M.ledger(ns)
  return ns .. "voltage:ledger"
end

-- hash: rule:{id} -> hash of what a file said, once applied.
function M.applied(ns)
  return ns .. "voltage:applied"
end

-- hash: caps of streams, memory seen at the last look.
function M.limits(ns)
  return ns .. "voltage:limits"
end

-- hash: what is wrong with the system now.
function M.system_conditions(ns)
  return ns .. "voltage:system:conditions"
end

-- hash: alarm -> the site's settings, JSON.
function M.system_settings(ns)
  return ns .. "voltage:system:settings"
end

-- stream: what happened to the system itself.
function M.events(ns)
  return ns .. "voltage:events"
end

-- stream: what went into every call that changed something.
function M.replay(ns)
  return ns .. "voltage:replay"
end

-- hash: bytes of the replay log, entries dropped.
function M.replay_size(ns)
  return ns .. "voltage:replay:size"
end

-- string: cap of the replay log while somebody keeps it.
function M.replay_kept(ns)
  return ns .. "voltage:replay:kept"
end

-- string: in the Redis of a replay alone: the definition changed.
function M.replay_private(ns)
  return ns .. "voltage:replay:private"
end

-- hash: in the Redis of a replay alone: recorded alarm -> its origin, where a definition is another one.
function M.replay_names(ns)
  return ns .. "voltage:replay:names"
end

-- hash: what a definition was before, and who changed it.
function M.versions(ns, kind, id)
  return ns .. "voltage:versions:" .. kind .. ":" .. id
end

-- zset: kind:id of deleted definitions, by instant.
function M.versions_gone(ns)
  return ns .. "voltage:versions:gone"
end

-- hash: a change that waits for a second person.
function M.proposal(ns, id)
  return ns .. "voltage:proposal:" .. id
end

-- zset: proposal ids by creation.
function M.proposals(ns)
  return ns .. "voltage:proposals"
end

-- set: what waits for a definition.
function M.proposals_pending(ns, kind, id)
  return ns .. "voltage:proposals:" .. kind .. ":" .. id
end

-- string: what runs beside the active definition.
function M.shadow(ns, kind, id)
  return ns .. "voltage:shadow:" .. kind .. ":" .. id
end

-- set: kind:id of all shadows.
function M.shadows(ns)
  return ns .. "voltage:shadows"
end

-- hash: how a shadow stands.
function M.shadow_state(ns, kind, id)
  return ns .. "voltage:shadow:" .. kind .. ":" .. id .. ":state"
end

-- stream: what a shadow and the active one did.
function M.shadow_log(ns, kind, id)
  return ns .. "voltage:shadow:" .. kind .. ":" .. id .. ":log"
end

-- hash: a job.
function M.job(ns, id)
  return ns .. "voltage:job:" .. id
end

-- zset: jobs that wait, by priority and age.
function M.jobs(ns, queue)
  return ns .. "voltage:jobs:" .. queue
end

-- zset: jobs by their not_before.
function M.jobs_delayed(ns, queue)
  return ns .. "voltage:jobs:" .. queue .. ":delayed"
end

-- zset: jobs by the end of their lease.
function M.jobs_leased(ns, queue)
  return ns .. "voltage:jobs:" .. queue .. ":leased"
end

-- string: number of the queue's last job.
function M.jobs_number(ns, queue)
  return ns .. "voltage:jobs:" .. queue .. ":number"
end

-- hash: input hash -> job.
function M.jobs_dedupe(ns, queue)
  return ns .. "voltage:jobs:" .. queue .. ":dedupe"
end

-- set: channel ids.
function M.channels(ns)
  return ns .. "comsrv:channels"
end

-- string: a channel's definition, JSON.
function M.channel(ns, ch)
  return ns .. "comsrv:channel:" .. ch
end

-- hash: point -> value, six decimals.
function M.values(ns, ch, type)
  return ns .. "comsrv:" .. ch .. ":" .. type
end

-- hash: T:5 -> program of a calculated point, JSON.
function M.programs(ns, ch)
  return ns .. "comsrv:" .. ch .. ":programs"
end

-- hash: T:1 -> unit that answers for it | unit of the value.
function M.points(ns, ch)
  return ns .. "comsrv:" .. ch .. ":points"
end

-- hash: A:1 -> limits of a point that may be written, JSON.
function M.writable(ns, ch)
  return ns .. "comsrv:" .. ch .. ":writable"
end

-- hash: point -> instant of the last change.
function M.values_at(ns, ch, type)
  return ns .. "comsrv:" .. ch .. ":" .. type .. ":ts"
end

-- hash: point -> quality while not good.
function M.values_quality(ns, ch, type)
  return ns .. "comsrv:" .. ch .. ":" .. type .. ":q"
end

-- hash: block -> instant of its last good response.
function M.seen(ns, ch)
  return ns .. "comsrv:" .. ch .. ":seen"
end

-- hash: A:1 -> state of its newest command.
function M.command_states(ns, ch)
  return ns .. "comsrv:" .. ch .. ":command_states"
end

-- hash: block -> last sequence of this epoch.
function M.sequence(ns, ch)
  return ns .. "comsrv:" .. ch .. ":seq"
end

-- hash: state, epoch, lease, units; behind where blocks come late.
function M.status(ns, ch)
  return ns .. "comsrv:" .. ch .. ":status"
end

-- hash: counters of the channel's samples.
function M.channel_ledger(ns, ch)
  return ns .. "comsrv:" .. ch .. ":ledger"
end

-- stream: commands as they come.
function M.command_stream(ns, ch)
  return ns .. "comsrv:" .. ch .. ":commands"
end

-- zset: queued command ids by priority and age.
function M.command_queue(ns, ch)
  return ns .. "comsrv:" .. ch .. ":queued"
end

-- set: command ids sent and not complete.
function M.command_sent(ns, ch)
  return ns .. "comsrv:" .. ch .. ":sent"
end

-- hash: a command.
function M.command(ns, id)
  return ns .. "comsrv:command:" .. id
end

-- zset: command ids by creation.
function M.commands(ns)
  return ns .. "comsrv:commands"
end

-- hash: point -> who selected it until when.
function M.selected(ns, ch)
  return ns .. "comsrv:" .. ch .. ":selected"
end

-- hash: point -> who holds it, and the fall-back.
function M.held(ns, ch)
  return ns .. "comsrv:" .. ch .. ":held"
end

-- hash: point -> last write, day, writes that day.
function M.wear(ns, ch)
  return ns .. "comsrv:" .. ch .. ":wear"
end

-- hash: point -> its queued command, where only the latest counts.
function M.latest(ns, ch)
  return ns .. "comsrv:" .. ch .. ":latest"
end

-- hash: point -> lock-out or maintenance tag.
function M.tags(ns, ch)
  return ns .. "comsrv:" .. ch .. ":tags"
end

-- hash: point -> substitution by hand.
function M.substituted(ns, ch)
  return ns .. "comsrv:" .. ch .. ":substituted"
end

-- stream: what operators did to points.
function M.operations(ns)
  return ns .. "comsrv:journal"
end

-- string: a template, JSON.
function M.template(ns, id)
  return ns .. "modsrv:template:" .. id
end

-- set: template ids.
function M.templates(ns)
  return ns .. "modsrv:templates"
end

-- string: a model, JSON.
function M.model(ns, id)
  return ns .. "modsrv:model:" .. id
end

-- set: model ids.
function M.models(ns)
  return ns .. "modsrv:models"
end

-- set: models of a template.
function M.models_by_template(ns, id)
  return ns .. "modsrv:models:by_template:" .. id
end

-- string: name -> reference of a model, JSON.
function M.model_expansion(ns, id)
  return ns .. "modsrv:" .. id .. ":expanded"
end

-- list: what the model's points were before, and until when, JSON.
function M.model_sources(ns, id)
  return ns .. "modsrv:" .. id .. ":sources"
end

-- hash: point name -> value.
function M.model_values(ns, id)
  return ns .. "modsrv:" .. id .. ":measurement"
end

-- hash: point name -> instant.
function M.model_values_at(ns, id)
  return ns .. "modsrv:" .. id .. ":measurement:ts"
end

-- hash: point name -> quality, not good.
function M.model_values_quality(ns, id)
  return ns .. "modsrv:" .. id .. ":measurement:q"
end

-- hash: action name -> last value confirmed.
function M.model_actions(ns, id)
  return ns .. "modsrv:" .. id .. ":action"
end

-- hash: T:1 -> [[model, name], ...], JSON.
function M.reverse(ns, ch)
  return ns .. "modsrv:reverse:" .. ch
end

-- hash: an alarm.
function M.alarm(ns, id)
  return ns .. "alarmsrv:alarm:" .. id
end

-- set: alarms that are not Resolved.
function M.alarms_active(ns)
  return ns .. "alarmsrv:alarms:active"
end

-- set: alarm ids of a level.
function M.alarms_by_level(ns, level)
  return ns .. "alarmsrv:alarms:by_level:" .. level
end

-- zset: alarm ids of a status by creation.
function M.alarms_in(ns, status)
  return ns .. "alarmsrv:alarms:in:" .. status
end

-- set: open alarms of a group.
function M.alarm_group(ns, group)
  return ns .. "alarmsrv:alarms:by_group:" .. group
end

-- hash: group -> origin of its first-out.
function M.alarm_first_outs(ns)
  return ns .. "alarmsrv:alarms:first_outs"
end

-- hash: kind, name, holder -> who marked what, JSON.
function M.alarm_marks(ns)
  return ns .. "alarmsrv:marks"
end

-- set: alarm ids of a source.
function M.alarms_by_source(ns, source)
  return ns .. "alarmsrv:alarms:by_source:" .. source
end

-- set: alarm ids of an area.
function M.alarms_by_area(ns, area)
  return ns .. "alarmsrv:alarms:by_area:" .. area
end

-- set: alarm ids of an equipment.
function M.alarms_by_equipment(ns, equipment)
  return ns .. "alarmsrv:alarms:by_equipment:" .. equipment
end

-- set: alarm ids that are shelved, suppressed or out_of_service.
function M.alarms_quiet(ns, why)
  return ns .. "alarmsrv:alarms:quiet:" .. why
end

-- hash: level -> how many are not Resolved.
function M.alarms_counts(ns)
  return ns .. "alarmsrv:alarms:counts"
end

-- zset: Resolved alarms by instant, for retention.
function M.alarms_resolved(ns)
  return ns .. "alarmsrv:alarms:resolved"
end

-- hash: origin -> open alarm id.
function M.alarms_open(ns)
  return ns .. "alarmsrv:alarms:open"
end

-- stream: every transition of every alarm.
function M.alarm_journal(ns)
  return ns .. "alarmsrv:journal"
end

-- hash: the last entry; what routes want.
function M.alarm_journal_head(ns)
  return ns .. "alarmsrv:journal:head"
end

-- string: a route of notification, JSON.
function M.alarm_route(ns, id)
  return ns .. "alarmsrv:route:" .. id
end

-- set: ids of the routes of notification.
function M.alarm_routes(ns)
  return ns .. "alarmsrv:routes"
end

-- stream: what operators must be told.
function M.alarm_outbox(ns)
  return ns .. "alarmsrv:outbox"
end

-- hash: target -> the message on its way.
function M.alarm_outbox_sending(ns)
  return ns .. "alarmsrv:outbox:sending"
end

-- set: entry|target: it has it, others wait.
function M.alarm_outbox_done(ns)
  return ns .. "alarmsrv:outbox:done"
end

-- hash: target -> rate and flood, JSON.
function M.alarm_outbox_targets(ns)
  return ns .. "alarmsrv:outbox:targets"
end

-- hash: route -> since when its shift knows.
function M.alarm_outbox_shifts(ns)
  return ns .. "alarmsrv:outbox:shifts"
end

-- stream: messages given up, and why.
function M.alarm_outbox_dead(ns)
  return ns .. "alarmsrv:outbox:dead"
end

-- string: an alarm definition, JSON.
function M.definition(ns, id)
  return ns .. "alarmsrv:definition:" .. id
end

-- set: definition ids.
function M.definitions(ns)
  return ns .. "alarmsrv:definitions"
end

-- hash: holds, windows.
function M.definition_state(ns, id)
  return ns .. "alarmsrv:definition:" .. id .. ":state"
end

-- hash: definition id -> truth (1 0 ? + -), active.
function M.conditions(ns)
  return ns .. "alarmsrv:conditions"
end

-- hash: truth, holds of suppress_when.
function M.suppression_state(ns, id)
  return ns .. "alarmsrv:definition:" .. id .. ":suppression"
end

-- string: a rule, JSON.
function M.rule(ns, id)
  return ns .. "rulesrv:rule:" .. id
end

-- set: rule ids.
function M.rules(ns)
  return ns .. "rulesrv:rules"
end

-- hash: truth, holds, firings.
function M.rule_state(ns, id)
  return ns .. "rulesrv:rule:" .. id .. ":state"
end

-- set: rules that watch a reference.
function M.watch(ns, source)
  return ns .. "rulesrv:watch:" .. source
end

-- hash: slices of a window that is aggregated over.
function M.rule_window(ns, source)
  return ns .. "rulesrv:window:" .. source
end

-- hash: time zone -> its offsets for some years, JSON.
function M.rule_zones(ns)
  return ns .. "rulesrv:zones"
end

-- set: time zones that conditions name now.
function M.rule_zones_wanted(ns)
  return ns .. "rulesrv:zones:wanted"
end

-- string: a calendar of dates, JSON.
function M.rule_calendar(ns, id)
  return ns .. "rulesrv:calendar:" .. id
end

-- set: calendar ids.
function M.rule_calendars(ns)
  return ns .. "rulesrv:calendars"
end

-- stream: every firing, with its inputs.
function M.firings(ns)
  return ns .. "rulesrv:firings"
end

-- string: a mapping, JSON.
function M.mapping(ns, id)
  return ns .. "hissrv:mapping:" .. id
end

-- set: mapping ids.
function M.mappings(ns)
  return ns .. "hissrv:mappings"
end

-- stream: documents that wait for the store.
function M.history_queue(ns)
  return ns .. "hissrv:queue"
end

-- hash: entries, bytes and samples of the queue; stores.
function M.history_size(ns)
  return ns .. "hissrv:queue:size"
end

-- hash: counters of what became of samples in a store.
function M.store_ledger(ns, store)
  return ns .. "hissrv:ledger:" .. store
end

-- set: dead-lettered entries other groups still read.
function M.history_failed(ns)
  return ns .. "hissrv:queue:failed"
end

-- hash: a batch on its way to the store.
function M.batch(ns, id)
  return ns .. "hissrv:batch:" .. id
end

-- stream: what the store refused, and why.
function M.dead_letters(ns)
  return ns .. "hissrv:dead_letters"
end

-- string: a network, JSON; secrets never.
function M.network(ns, id)
  return ns .. "netsrv:network:" .. id
end

-- set: network ids.
function M.networks(ns)
  return ns .. "netsrv:networks"
end

-- string: a route, JSON.
function M.route(ns, id)
  return ns .. "netsrv:route:" .. id
end

-- set: route ids.
function M.routes(ns)
  return ns .. "netsrv:routes"
end

-- hash: token, new at each change; whether the queue is read.
function M.forward_state(ns)
  return ns .. "netsrv:state"
end

-- stream: log-ins and changes of users.
function M.audit(ns)
  return ns .. "gateway:audit"
end

-- channel: changed points of a channel.
function M.updates(ns, ch)
  return ns .. "comsrv:updates:" .. ch
end

-- channel: changed points of a model.
function M.model_updates(ns, id)
  return ns .. "modsrv:updates:" .. id
end

-- channel: a command's new state.
function M.command_changed(ns)
  return ns .. "comsrv:command:changed"
end

-- channel: a new alarm.
function M.alarm_new(ns)
  return ns .. "alarmsrv:new"
end

-- channel: an alarm that changed.
function M.alarm_changed(ns)
  return ns .. "alarmsrv:changed"
end

-- channel: a rule that fired or cleared.
function M.triggered(ns)
  return ns .. "rulesrv:triggered"
end

-- channel: what a rule's publish action says.
function M.rule_published(ns, topic)
  return ns .. "rulesrv:published:" .. topic
end

return M
