"""History of points: takes the queue, keeps it in a store, answers queries.

Port    base + 4 (6004)
Keys    hissrv:queue (consumer group `hissrv`), hissrv:mapping:{id}, hissrv:batch:{id}, hissrv:dead_letters
Calls   batch_collect, batch_acknowledge, batch_fail, get_batch_status, configure_mapping, mapping_list,
        mapping_delete, model_get
Files   {data_dir}/history: services/hissrv/store says what is where
"""
