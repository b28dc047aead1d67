"""The link over a network: Flower embedded at both ends, signed messages, weights beside them.

Server: `superlink` behind `public_gate` and `listeners`, `server_run`, `signed_server`. Site:
`fleet_node`, `warm_worker`, `signed_site`, `signed_answer`, `outbox`. Both: `bundle`, `calls`,
`signed_records`, and the way of weights, `blob_folder`, `blob_routes`, `blob_client`.
"""
