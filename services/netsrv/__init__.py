"""Networks: forwards points to MQTT brokers and HTTP servers, takes commands from MQTT.

Port    base + 6 (6006)
Keys    netsrv:*; reads hissrv:queue in the consumer group `netsrv`
Calls   network_*, route_*, forward_claim, forward_complete, command_submit, command_get, model_list,
        model_expand
Files   config/netsrv.yaml; {data_dir}/netsrv/{network}.db: what waits for a network

The way of a value: queue entry -> samples (documents) -> messages (router) -> a network's
disk queue (disk_queue) -> acknowledged to Redis -> sent (mqtt_link, http_link) -> removed.
"""
